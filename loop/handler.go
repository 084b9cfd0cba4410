package loop

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Handler returns an http.Handler that upgrades a request and takes its connection over from the
// net/http server, with whatever was read ahead. The connection must be TCP without TLS, otherwise
// it is answered 501: what net/http has read of TLS cannot be taken from it, so TLS is for Serve and
// Config.TLS. Routing, and everything before the upgrade, is the caller's. Connections are counted per address as
// Request.RemoteAddr has it, or X-Forwarded-For if that is a trusted proxy's.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := s.enter(addrIn(r.RemoteAddr), false)
		if refusal := s.takeOver(c, w, r); refusal != nil {
			s.conns.remove(c)
			s.refused(c, refusal)
			refusal.header(w.Header().Set)
			http.Error(w, refusal.problem, refusal.status)
		}
	})
}

// addrIn returns the address in "ip:port" or "ip", none if there is none.
func addrIn(remote string) netip.AddrPort {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap
	}
	addr, _ := netip.ParseAddr(remote)
	return netip.AddrPortFrom(addr, 0)
}

var refuseTLS = newRefusal(http.StatusNotImplemented, "this server cannot take a connection with TLS over: let the hub have a port with TLS of its own (loop.Config.TLS, or hub serve --tls-cert), or end TLS in a proxy", RefusedBadRequest)

// takeOver makes c of the connection that r came on. Once that is taken from the net/http server
// there is no refusal any more, and c is no longer the caller's.
func (s *Server) takeOver(c *conn, w http.ResponseWriter, r *http.Request) *refusal {
	topics, refusal := c.examine(r)
	if refusal == nil && r.TLS != nil {
		refusal = refuseTLS
	}
	if refusal == nil && s.config.Authenticate != nil {
		var claims fanout.Claims
		if claims, refusal = s.ask(r, topics); refusal == nil {
			c.spoke.Restrict(claims)
		}
	}
	h := handshakers.Get().(*handshaker)
	defer handshakers.Put(h)
	if refusal == nil {
		refusal = c.shake(h, r)
	}
	if refusal != nil {
		return refusal
	}
	netConn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return cannotTakeOver(codec.Problem(err))
	}
	tcp, ok := netConn.(*net.TCPConn)
	if !ok {
		refusal := cannotTakeOver(fmt.Sprintf("a %T cannot be taken over, only a TCP connection", netConn))
		s.config.Logger.Error("loop: handler: " + refusal.problem)
		s.refusals.add(refusal.why)
		s.conns.remove(c)
		_, _ = netConn.Write(answer(refusal.status, "", refusal.problem+"\n", false))
		_ = netConn.Close()
		return nil
	}
	rest, _ := io.ReadAll(io.LimitReader(rw, int64(rw.Reader.Buffered())))
	if err := s.handOver(c, tcp, h.out.Bytes(), topics, rest); err != nil { // or the peer is gone, or the server
		if outOfResources(err) {
			s.refusals.add(RefusedDescriptors)
			s.config.Logger.Warn("loop: handler: " + err.Error())
		}
	}
	return nil
}

func cannotTakeOver(problem string) *refusal {
	return newRefusal(http.StatusNotImplemented, problem, RefusedBadRequest)
}

// handOver makes a connection of package net a spoke. hello is the answer to its handshake. On an
// error the connection has been closed.
func (s *Server) handOver(c *conn, tcp *net.TCPConn, hello []byte, topics []codec.Pattern, rest []byte) error {
	_, err := tcp.Write(hello)
	if err != nil {
		s.conns.remove(c)
		_ = tcp.Close()
		return err
	}
	fd, err := takeDescriptor(tcp)
	if err != nil {
		s.conns.remove(c)
		return err
	}
	setOptions(fd, &s.config)
	c.lastRead.Store(uint32(s.now()))
	return s.adopt(c, fd, func() { c.upgraded(nil, topics, rest) })
}

// adopt makes c the connection with this descriptor, and calls begin before any of the pollers reads
// from it. On an error the connection has been closed.
func (s *Server) adopt(c *conn, fd int, begin func()) error {
	c.sock = socketOf(fd, c)
	defer s.adopting.over()
	c.flags.Or(flagOpen | flagReading)
	if err := s.engine.add(c.sock); err != nil {
		c.onClosed(err)
		c.endRead()
		return err
	}
	begin()
	c.endRead()
	return nil
}
