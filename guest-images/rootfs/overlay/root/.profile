PATH=/usr/sbin:/usr/bin
PS1='guest:\w# '
