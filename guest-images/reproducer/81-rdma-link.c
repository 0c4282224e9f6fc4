// SPDX-License-Identifier: GPL-2.0-only
/* An rxe device over a virtio NIC, by netlink (drivers/infiniband/core/nldev.c, nldev_newlink). */
#include <dirent.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <rdma/rdma_netlink.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define RXE_LINK	"rxe0"
#define NIC_ADDRESS	0xc0a84210	/* 192.168.66.16, if the NIC has none */
#define NIC_NETMASK	0xffffff00

/* Copy the name of an entry of a directory that begins with @prefix. */
static int find_entry(const char *path, const char *prefix, char *name, size_t room)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	int ret = -ENOENT;

	if (!dir)
		return -errno;
	while (ret && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(name, room, "%.*s", (int)room - 1, entry->d_name);
		ret = 0;
	}
	closedir(dir);
	return ret;
}

/* Copy the name of the network device of the virtio NIC at @bdf. */
static int nic_name(const char *bdf, char *name, size_t room)
{
	char virtio[32], net[64];
	int ret = find_entry(pci_file(bdf, "."), "virtio", virtio, sizeof(virtio));

	if (ret)
		return ret;
	snprintf(net, sizeof(net), "%s/net", virtio);
	return find_entry(pci_file(bdf, net), "", name, room);
}

static int set_address(int sock, struct ifreq *request, unsigned long ioctl_number,
		       uint32_t address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;

	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(address);
	return ioctl(sock, ioctl_number, request) ? -errno : 0;
}

/* Bring a network device up, with @address if it has none. */
static int bring_up(const char *name, uint32_t address)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };
	int ret = 0;

	if (sock < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(sock, SIOCGIFADDR, &request)) {
		ret = set_address(sock, &request, SIOCSIFADDR, address);
		if (!ret)
			ret = set_address(sock, &request, SIOCSIFNETMASK, NIC_NETMASK);
	}
	if (!ret && ioctl(sock, SIOCGIFFLAGS, &request))
		ret = -errno;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (!ret && ioctl(sock, SIOCSIFFLAGS, &request))
		ret = -errno;
	close(sock);
	return ret;
}

static void add_text(struct nlmsghdr *message, uint16_t type, const char *text)
{
	struct nlattr *attribute = (void *)((uint8_t *)message + message->nlmsg_len);

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + strlen(text) + 1;
	memcpy(attribute + 1, text, strlen(text) + 1);
	message->nlmsg_len += NLA_ALIGN(attribute->nla_len);
}

/* Send a message, and return the error of its acknowledgement. */
static int send_netlink(const struct nlmsghdr *message)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	struct {
		struct nlmsghdr header;
		int error;
		uint8_t rest[1024];
	} reply;
	int ret = 0;

	if (sock < 0)
		return -errno;
	if (send(sock, message, message->nlmsg_len, 0) < 0 ||
	    recv(sock, &reply, sizeof(reply), 0) < 0)
		ret = -errno;
	close(sock);
	return ret ? ret : reply.error;
}

/* Create the RDMA device RXE_LINK over the virtio NIC at @bdf, unless it exists. */
static int add_rxe_link(const char *bdf)
{
	struct {
		struct nlmsghdr header;
		uint8_t attributes[256];
	} message = {
		.header.nlmsg_len = sizeof(message.header),
		.header.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK),
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	};
	char nic[IFNAMSIZ];
	int ret = access("/sys/module/rdma_rxe", F_OK) ? load_module("rdma_rxe") : 0;

	if (!ret)
		ret = nic_name(bdf, nic, sizeof(nic));
	if (!ret)
		ret = bring_up("lo", INADDR_LOOPBACK);
	if (!ret)
		ret = bring_up(nic, NIC_ADDRESS);
	if (ret)
		return ret;
	add_text(&message.header, RDMA_NLDEV_ATTR_DEV_NAME, RXE_LINK);
	add_text(&message.header, RDMA_NLDEV_ATTR_NDEV_NAME, nic);
	add_text(&message.header, RDMA_NLDEV_ATTR_LINK_TYPE, "rxe");
	ret = send_netlink(&message.header);
	return ret == -EEXIST ? 0 : ret;
}

/* Read a GID in the form of sysfs: eight groups of four digits. */
static bool parse_gid(const char *text, uint8_t *gid)
{
	unsigned int i, group;

	for (i = 0; i < 8; i++) {
		if (sscanf(text + 5 * i, "%4x", &group) != 1)
			return false;
		gid[2 * i] = group >> 8;
		gid[2 * i + 1] = group;
	}
	return true;
}

/* Find the GID of RXE_LINK that is an IPv4 address. Return its index. */
static int ipv4_gid(uint8_t *gid)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	long long end_ms = now_ms() + 5000;
	char path[96], text[64];
	int index;

	do {
		for (index = 0; index < 16; index++) {
			snprintf(path, sizeof(path),
				 "/sys/class/infiniband/" RXE_LINK "/ports/1/gids/%d", index);
			if (!read_file(path, text, sizeof(text)) && parse_gid(text, gid) &&
			    !memcmp(gid, prefix, sizeof(prefix)))
				return index;
		}
		sleep_ms(10);
	} while (now_ms() < end_ms);
	return -EADDRNOTAVAIL;
}
