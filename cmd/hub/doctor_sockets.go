package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/alkdev/hub/loop"
)

// The checks of descriptors, ports and what the kernel keeps for sockets.

// manySpokes is what is expected of a hub without --max-spokes.
const manySpokes = 65536

// spokes returns how many may connect, as the flags and the descriptors have it, and whether the
// flags say so.
func (p *patientMachine) spokes() (n int64, said bool) {
	if p.c.maxSpokes > 0 {
		return int64(p.c.maxSpokes), true
	}
	soft, _, err := p.descriptors()
	if err != nil {
		return manySpokes, false
	}
	return max(1, int64(min(soft, 1<<24))-loop.ReservedDescriptors), false
}

func checkDescriptors(p *patientMachine) {
	const name = "descriptors"
	soft, hard, err := p.descriptors()
	if err != nil {
		p.unknown(name, err)
		return
	}
	n, said := p.spokes()
	needed := uint64(n) + loop.ReservedDescriptors
	is := fmt.Sprintf("%s (hard limit %s), room for %s spokes", grouped(soft), grouped(hard), grouped(max(soft, loop.ReservedDescriptors)-loop.ReservedDescriptors))
	if !said {
		needed = manySpokes
	}
	fix := fmt.Sprintf("LimitNOFILE=%d in the unit; --ulimit nofile=%d for docker run; '* hard nofile %d' in /etc/security/limits.conf and a new login for a shell, where ulimit -n goes no further than the hard limit", needed, needed, needed)
	if hard >= needed {
		fix = fmt.Sprintf("ulimit -n %d", needed)
	} else if most, err := number1(p, "/proc/sys/fs/nr_open"); err == nil && uint64(most) < needed {
		fix = fmt.Sprintf("sysctl -w fs.nr_open=%d, then ", needed) + fix
	}
	switch {
	case soft >= needed:
		p.note(name, fine, is, "", "")
	case said:
		p.note(name, bad, is, fmt.Sprintf("%s for --max-spokes %d", grouped(needed), n), fix)
	default:
		p.note(name, risky, is, fmt.Sprintf("%s or more, or --max-spokes below what there is: beyond it spokes are answered 503", grouped(needed)), fix)
	}
	if all, err := number1(p, "/proc/sys/fs/file-max"); err == nil && uint64(all) < needed {
		p.note("files", bad, grouped(uint64(all))+" for the whole machine", "more than "+grouped(needed), fmt.Sprintf("sysctl -w fs.file-max=%d", 2*needed))
	}
}

func checkAddresses(p *patientMachine) {
	cluster := "off"
	if p.c.engine.engine == engineEmbedded {
		cluster = p.c.engine.listen
	}
	taken := make(map[string]string) // by flag
	for _, a := range []struct{ flag, address string }{{"--listen", p.c.listen}, {"--admin", p.c.admin}, {"--cluster-listen", cluster}} {
		if a.address == "off" {
			continue
		}
		name := strings.TrimPrefix(a.flag, "--") + " address"
		if flag := clash(taken, a.address); flag != "" {
			p.note(name, bad, a.address+" is where "+flag+" listens", "an address of its own", "another "+a.flag)
			continue
		}
		taken[a.flag] = a.address
		err := p.listen(a.address)
		port := portOf(a.address)
		switch {
		case err == nil:
			p.note(name, fine, a.address+" is free", "", "")
		case errors.Is(err, syscall.EADDRINUSE) && a.flag == "--listen" && p.c.reusePort && p.join(a.address) == nil:
			p.note(name, fine, a.address+" is in use by hubs that share it", "", "")
		case errors.Is(err, syscall.EADDRINUSE) && a.flag != "--cluster-listen" && p.hub(a.address):
			p.note(name, bad, a.address+" is in use: a hub answers there already", "free", fmt.Sprintf("stop that hub, which ss -ltnp 'sport = :%d' shows, or take another %s", port, a.flag))
		case errors.Is(err, syscall.EADDRINUSE):
			p.note(name, bad, a.address+" is in use", "free", fmt.Sprintf("ss -ltnp 'sport = :%d' shows by whom; stop that, or take another %s", port, a.flag))
		case errors.Is(err, syscall.EACCES):
			p.note(name, bad, fmt.Sprintf("%s: port %d is for root", a.address, port), "a port that the hub may open",
				"AmbientCapabilities= and CapabilityBoundingSet=CAP_NET_BIND_SERVICE and PrivateUsers=no in the unit, or "+a.flag+" with a port of 1024 or more")
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			p.note(name, bad, a.address+" is no address of this machine", "one that ip addr shows", "another "+a.flag)
		default:
			p.note(name, bad, a.address+": "+err.Error(), "an address that the hub can listen at", "another "+a.flag)
		}
	}
}

// clash returns which of the flags has an address that cannot be listened at together with address, "" if none has.
func clash(taken map[string]string, address string) string {
	host, port, _ := net.SplitHostPort(address)
	for flag, other := range taken {
		h, p, _ := net.SplitHostPort(other)
		if p == port && portOf(address) != 0 && (h == host || isEverywhere(h) || isEverywhere(host)) {
			return flag
		}
	}
	return ""
}

// isEverywhere reports whether a host stands for all addresses of the machine.
func isEverywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// checkMigration: a hub that is told to go leaves nobody behind; one that dies does.
func checkMigration(p *patientMachine) {
	const name, path = "migration", "/proc/sys/net/ipv4/tcp_migrate_req"
	if !p.c.reusePort {
		return
	}
	on, err := number1(p, path)
	if err != nil {
		p.note(name, risky, "unknown: "+err.Error(), "net.ipv4.tcp_migrate_req, of Linux 5.14", "a newer kernel")
		return
	}
	v := fine
	if on == 0 {
		v = risky
	}
	p.note(name, v, fmt.Sprintf("net.ipv4.tcp_migrate_req = %d", on), "1: who waits to be accepted by a hub that dies goes to another instead of being reset", "sysctl -w net.ipv4.tcp_migrate_req=1")
}

// checkBacklog: Go listens with somaxconn as the backlog.
func checkBacklog(p *patientMachine) {
	const name, least = "backlog", 4096
	somaxconn, err := number1(p, "/proc/sys/net/core/somaxconn")
	if err != nil {
		p.unknown(name, err)
		return
	}
	is := fmt.Sprintf("net.core.somaxconn = %d connections may wait to be accepted", somaxconn)
	n, said := p.spokes()
	v := fine
	switch want := min(least, n); {
	case somaxconn >= want:
	case said && somaxconn < want/8:
		v = bad
	default:
		v = risky
	}
	p.note(name, v, is, fmt.Sprintf("%d, for spokes that all come back at once", least), fmt.Sprintf("sysctl -w net.core.somaxconn=%d", least))

	syn, err := number1(p, "/proc/sys/net/ipv4/tcp_max_syn_backlog")
	cookies, _ := number1(p, "/proc/sys/net/ipv4/tcp_syncookies")
	if err == nil {
		v := fine
		if syn < 1024 && n > 1024 && cookies == 0 {
			v = risky
		}
		p.note("SYN backlog", v, fmt.Sprintf("net.ipv4.tcp_max_syn_backlog = %d, syncookies %d", syn, cookies), "1024 or more, or syncookies", "sysctl -w net.ipv4.tcp_max_syn_backlog=4096 net.ipv4.tcp_syncookies=1")
	}
}

// checkPorts: ephemeral ports are what a proxy on this machine connects to the hub from, and what may
// take the hub's own port before it starts.
func checkPorts(p *patientMachine) {
	const name = "ephemeral ports"
	bounds, err := numbers(p, "/proc/sys/net/ipv4/ip_local_port_range", 2)
	if err != nil {
		p.unknown(name, err)
		return
	}
	room := bounds[1] - bounds[0] + 1
	is := fmt.Sprintf("%d to %d, %s from one address to another", bounds[0], bounds[1], grouped(uint64(max(0, room))))
	n, said := p.spokes()
	port := int64(portOf(p.c.listen))
	reserved, _ := p.read("/proc/sys/net/ipv4/ip_local_reserved_ports")
	switch {
	case port >= bounds[0] && port <= bounds[1] && !strings.Contains(reserved, fmt.Sprint(port)):
		p.note(name, risky, is, fmt.Sprintf("a range without %d: an outgoing connection may have the hub's port when it starts", port), fmt.Sprintf("sysctl -w net.ipv4.ip_local_reserved_ports=%d", port))
	case said && n > room && isLoopback(p.c.listen):
		p.note(name, bad, is, fmt.Sprintf("%s, for a proxy on this machine with --max-spokes %d", grouped(uint64(n)), n),
			"sysctl -w net.ipv4.ip_local_port_range='1024 65535', or let the proxy connect from several addresses (127.0.0.2, 127.0.0.3, ...)")
	default:
		p.note(name, fine, is, "", "")
	}
}

// stalledShare is the part of all spokes that may have stopped reading before the kernel's memory for
// TCP gets scarce: one in so many.
const stalledShare = 10

// checkTCPMemory: a stalled spoke holds its send buffer in the kernel. Without --sndbuf that is about the
// middle figure of tcp_wmem, which grows only while the peer takes something, and --notsent-lowat.
func checkTCPMemory(p *patientMachine) {
	const name = "TCP memory"
	mem, err := numbers(p, "/proc/sys/net/ipv4/tcp_mem", 3)
	wmem, err2 := numbers(p, "/proc/sys/net/ipv4/tcp_wmem", 3)
	if err := errors.Join(err, err2); err != nil {
		p.unknown(name, err)
		return
	}
	const page = 4096
	perSpoke := wmem[1] + p.c.notSentLowat
	if p.c.sndbuf > 0 {
		perSpoke = 2 * p.c.sndbuf // the kernel doubles it, for its overhead
	}
	n, said := p.spokes()
	need := n / stalledShare * perSpoke
	is := fmt.Sprintf("net.ipv4.tcp_mem = %d %d %d pages: pressure from %s, no more than %s", mem[0], mem[1], mem[2], roughly(mem[1]*page), roughly(mem[2]*page))
	want := fmt.Sprintf("room for %s: one in %d of %s spokes stalled with %s each", roughly(need), stalledShare, grouped(uint64(n)), roughly(perSpoke))
	pages := need / page
	fix := fmt.Sprintf("sysctl -w net.ipv4.tcp_mem='%d %d %d', or a smaller --sndbuf", pages, pages*3/2, pages*2)
	switch {
	case need <= mem[1]*page:
		p.note(name, fine, is, "", "")
	case need > mem[2]*page && said:
		p.note(name, bad, is, want, fix)
	default:
		p.note(name, risky, is, want, fix)
	}
}

// checkBuffers: --sndbuf beyond wmem_max is cut without an error, and a first window that does not hold a
// request costs every handshake a round trip.
func checkBuffers(p *patientMachine) {
	most, err := number1(p, "/proc/sys/net/core/wmem_max")
	wmem, err2 := numbers(p, "/proc/sys/net/ipv4/tcp_wmem", 3)
	rmem, err3 := numbers(p, "/proc/sys/net/ipv4/tcp_rmem", 3)
	if err := errors.Join(err, err2, err3); err != nil {
		p.unknown("socket buffers", err)
		return
	}
	is := fmt.Sprintf("net.ipv4.tcp_wmem = %d %d %d", wmem[0], wmem[1], wmem[2])
	v, want, fix := fine, "", ""
	switch {
	case p.c.sndbuf > most:
		v, is = bad, fmt.Sprintf("net.core.wmem_max = %d", most)
		want = fmt.Sprintf("%d, or --sndbuf %s is cut to %s", p.c.sndbuf, showSize(p.c.sndbuf), showSize(most))
		fix = fmt.Sprintf("sysctl -w net.core.wmem_max=%d", p.c.sndbuf)
	case p.c.sndbuf == 0 && wmem[2] < p.c.notSentLowat:
		v, want, fix = risky, fmt.Sprintf("a last figure above --notsent-lowat, %s", showSize(p.c.notSentLowat)), "sysctl -w net.ipv4.tcp_wmem='4096 16384 4194304'"
	}
	p.note("send buffers", v, is, want, fix)

	const least = 16 << 10
	v = fine
	if rmem[1] < least {
		v = risky
	}
	p.note("receive buffers", v, fmt.Sprintf("net.ipv4.tcp_rmem = %d %d %d", rmem[0], rmem[1], rmem[2]),
		fmt.Sprintf("a middle figure of %d or more: half of it is the first window, which is to hold a request", least),
		"sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'")
}

func checkNotSentLowat(p *patientMachine) {
	const name = "NOTSENT_LOWAT"
	if p.c.notSentLowat == 0 {
		p.note(name, fine, "not asked for", "", "")
		return
	}
	n, err := p.lowat(int(p.c.notSentLowat))
	switch {
	case err != nil:
		p.note(name, risky, "TCP_NOTSENT_LOWAT: "+err.Error(), "an option that the kernel has: without it what waits for a slow spoke grows stale in the kernel", "Linux 3.12 or newer, on a plain TCP socket")
	case int64(n) != p.c.notSentLowat:
		p.note(name, risky, fmt.Sprintf("TCP_NOTSENT_LOWAT is %d after setting it to %d", n, p.c.notSentLowat), "what was set", "Linux 3.12 or newer, on a plain TCP socket")
	default:
		p.note(name, fine, fmt.Sprintf("TCP_NOTSENT_LOWAT = %d works", n), "", "")
	}
}

// checkTracking: a full table of connections drops new ones.
func checkTracking(p *patientMachine) {
	most, err := number1(p, "/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		return // nothing tracks
	}
	n, said := p.spokes()
	v := fine
	if need := n + n/4; most < need {
		if v = risky; said {
			v = bad
		}
	}
	p.note("tracking", v, fmt.Sprintf("net.netfilter.nf_conntrack_max = %s", grouped(uint64(most))),
		fmt.Sprintf("a quarter above %s spokes, or no tracking of the hub's port", grouped(uint64(n))),
		fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, or nft add rule raw prerouting tcp dport %d notrack", n+n/4, portOf(p.c.listen)))
}

func grouped(n uint64) string { return humanize.Comma(int64(min(n, 1<<62))) }

func roughly(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
