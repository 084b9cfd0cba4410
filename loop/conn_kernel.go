package loop

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/fanout"
)

// Kernel implements fanout.KernelSink, by TCP_INFO. Linux before 4.6 does not say what is unsent.
func (c *conn) Kernel() (k fanout.Kernel, ok bool) {
	withDescriptor(c.sock, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		k, ok = fanout.Kernel{
			RTT:         time.Duration(info.Rtt) * time.Microsecond,
			RTTVar:      time.Duration(info.Rttvar) * time.Microsecond,
			Retransmits: uint64(info.Total_retrans),
			Unacked:     uint64(info.Unacked),
			Unsent:      int64(info.Notsent_bytes),
		}, true
	})
	return k, ok
}
