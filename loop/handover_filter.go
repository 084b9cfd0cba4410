package loop

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Filters that choose a listener of a group: classic BPF, which needs no privilege. A result beyond the
// group leaves the choice to the kernel. The program belongs to the group, the last one attached counts.

// byTheKernel is no place.
const byTheKernel = 1<<32 - 1

// Ancillary loads, linux/filter.h.
const (
	adRandom      = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM
	networkHeader = 0xfff00000      // SKF_NET_OFF
)

// amongOthers chooses any of n listeners but the one at place.
func amongOthers(place, n int) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: adRandom},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(max(1, n-1))},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: uint32(place), Jf: 1},
		{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K, K: 1},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
}

// onePort chooses place for who comes from a port. With IP options the port would stand elsewhere, but
// loopback has none.
func onePort(port uint16, place int, ipv6 bool) []unix.SockFilter {
	const ipv4Bytes, ipv6Bytes = 20, 40
	at := uint32(networkHeader + ipv4Bytes)
	if ipv6 {
		at = networkHeader + ipv6Bytes
	}
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: at},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(port), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(place)},
		{Code: unix.BPF_RET | unix.BPF_K, K: byTheKernel},
	}
}

// attach makes a filter that of the group.
func (l *listener) attach(filter []unix.SockFilter) error {
	var err error
	if e := l.control(func(fd int) {
		err = os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
	}); e != nil {
		return e
	}
	return err
}

// detach removes what somebody who has left may have left behind: the group has changed since.
func detach(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) // there may be none
}

// others returns how many other listeners the port has: those at the same address are one group.
func (l *listener) others() int {
	var row, path string
	err := l.control(func(fd int) {
		sa, err := unix.Getsockname(fd)
		if err == nil {
			row, path = procRow(sa)
		}
	})
	if err != nil || path == "" {
		return 0
	}
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	n := 0
	rows := bufio.NewScanner(f)
	rows.Scan() // the heading
	for rows.Scan() {
		fields := strings.Fields(rows.Text())
		const listening = "0A"
		if len(fields) < 4 || fields[3] != listening { // listeners come first
			break
		}
		if fields[1] == row {
			n++
		}
	}
	return max(0, n-1)
}

// procRow returns how proc(5) writes an address, and in which file.
func procRow(sa unix.Sockaddr) (row, path string) {
	words := func(b []byte) string {
		var s strings.Builder
		for ; len(b) > 0; b = b[4:] {
			fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b))
		}
		return s.String()
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%s:%04X", words(sa.Addr[:]), sa.Port), "/proc/self/net/tcp"
	case *unix.SockaddrInet6:
		return fmt.Sprintf("%s:%04X", words(sa.Addr[:]), sa.Port), "/proc/self/net/tcp6"
	}
	return "", ""
}
