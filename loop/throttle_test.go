package loop

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func throttleOf(t testing.TB, c Config) *throttle {
	t.Helper()
	c.Hub = new(fanout.Hub)
	require.NoError(t, c.Validate())
	return newThrottle(&c)
}

// taken returns how many of n handshakes at the same time are let in.
func taken(th *throttle, from netip.Addr, now time.Duration, n int) (in int) {
	for range n {
		if _, wait := th.take(from, now); wait == 0 {
			in++
		}
	}
	return in
}

var someone, other = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func TestHandshakesOfAnAddressComeAtItsRateAfterABurst(t *testing.T) {
	th := throttleOf(t, Config{ConnectRatePerIP: 10, ConnectBurstPerIP: 5})
	require.Equal(t, 5, taken(th, someone, 0, 20))
	require.Equal(t, 5, taken(th, other, 0, 20), "another has its own")
	over, wait := th.take(someone, 0)
	require.Equal(t, RefusedRateForIP, over)
	require.Equal(t, 100*time.Millisecond, wait, "until the next may come")
	require.Zero(t, taken(th, someone, 100*time.Millisecond-1, 20))
	require.Equal(t, 1, taken(th, someone, 100*time.Millisecond, 20))
	require.Equal(t, 3, taken(th, someone, 400*time.Millisecond, 20))
	require.Equal(t, 5, taken(th, someone, time.Hour, 20), "a pause gives the burst back, and no more")
}

func TestWhoKeepsTryingGetsInAtTheRate(t *testing.T) {
	for _, c := range []Config{{ConnectRatePerIP: 10, ConnectBurstPerIP: 1}, {ConnectRate: 10}} {
		th := throttleOf(t, c)
		in := 0
		for now := time.Duration(0); now < 10*time.Second; now += time.Millisecond { // 1000 a second
			in += taken(th, someone, now, 1)
		}
		require.InDelta(t, 100, in, 10, "%+v", c)
	}
}

func TestAllHandshakesComeAtTheRate(t *testing.T) {
	th := throttleOf(t, Config{ConnectRate: 100})
	for i := range 150 {
		over, wait := th.take(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 0)
		if i < 100 {
			require.Zero(t, wait, "a second's worth may come at once")
			continue
		}
		require.Equal(t, RefusedRate, over)
		require.Equal(t, time.Duration(i-99)*10*time.Millisecond, wait, "each is asked to come back at a moment of its own")
	}
	require.Equal(t, 50, taken(th, someone, 500*time.Millisecond, 100))
	for range 10_000 {
		_, wait := th.take(someone, 500*time.Millisecond)
		require.LessOrEqual(t, wait, longestWait)
	}
}

func TestOneAddressDoesNotUseUpTheRateOfAll(t *testing.T) {
	th := throttleOf(t, Config{ConnectRate: 100, ConnectRatePerIP: 1, ConnectBurstPerIP: 10})
	require.Equal(t, 10, taken(th, someone, 0, 1000))
	for i := range 9 {
		require.Equal(t, 10, taken(th, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 0, 10))
	}
	late := netip.MustParseAddr("192.0.2.3")
	require.Zero(t, taken(th, late, 0, 10), "the rate of all is used up")
	require.Equal(t, 10, taken(th, late, time.Second, 100), "being refused for that has cost it nothing of its own")
}

func TestWhoseAddressIsUnknownCountsAmongAllOnly(t *testing.T) {
	th := throttleOf(t, Config{ConnectRate: 100, ConnectRatePerIP: 1, ConnectBurstPerIP: 1})
	require.Equal(t, 100, taken(th, netip.Addr{}, 0, 200))
	require.Nil(t, throttleOf(t, Config{ConnectBurstPerIP: 5}), "no rate, no throttle")
}

func TestAnIPv6AddressCountsAsItsSubnet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true}, // the same address in other words
		{"192.0.2.1", "::192.0.2.1", false},
		{"127.0.0.1", "::1", false},
		{"0.0.0.1", "::ffff:0:0:0:1", false},
	} {
		a, b := keyOf(netip.MustParseAddr(c.a)), keyOf(netip.MustParseAddr(c.b))
		require.Equal(t, c.same, a == b, "%s %s", c.a, c.b)
	}
}

// The table against a plain map without bounds, as long as not too many addresses are on their way back
// to a full burst at the same time.
func TestAddressesAreKeptApart(t *testing.T) {
	const rate, burst = 10, 3
	th := throttleOf(t, Config{ConnectRatePerIP: rate, ConnectBurstPerIP: burst})
	model := make(map[netip.Addr]time.Duration)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	each := paceOf(rate, burst)
	now := time.Duration(0)
	for range 30_000 {
		now += time.Duration(random.IntN(int(time.Millisecond)))
		a := netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(4)), byte(random.Uint32())})
		clock := model[a]
		fits := clock <= now+(burst-1)*time.Second/rate
		if fits {
			each.take(&clock, now)
			model[a] = clock
		}
		_, wait := th.take(a, now)
		if fits != (wait == 0) {
			require.FailNow(t, "another decision", "seed %d, %v at %v", seed, a, now)
		}
	}
}

// Far more addresses than there are places, none of which is back at a full burst.
func TestAFloodOfAddressesTakesNoMemory(t *testing.T) {
	require.EqualValues(t, 1<<20, unsafe.Sizeof(addressClocks{}.places))
	th := throttleOf(t, Config{ConnectRatePerIP: 1, ConnectBurstPerIP: 2})
	flood := func(from, n int) (in int) {
		for i := range n {
			in += taken(th, netip.AddrFrom4([4]byte{10, byte((from + i) >> 16), byte((from + i) >> 8), byte(from + i)}), 0, 1)
		}
		return in
	}
	require.Equal(t, 1000, flood(0, 1000))
	require.Zero(t, taken(th, netip.MustParseAddr("10.0.0.0"), 0, 3)-1, "has one more, then none")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.Equal(t, 80_000, flood(1000, 80_000), "new addresses have their burst")
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10))
	require.Zero(t, taken(th, netip.MustParseAddr("10.0.0.0"), 0, 1), "those who had less are forgotten first")
	require.Zero(t, testing.AllocsPerRun(100, func() { th.take(someone, 0) }))
}

func TestHandshakesThatComeTooFastAreTold(t *testing.T) {
	for _, c := range []struct {
		throttle *throttle
		in       int
		status   int
		body     string
		why      RefusalReason
	}{
		{&throttle{all: pace{time.Hour, 2 * time.Hour}}, 3, http.StatusServiceUnavailable, "too many handshakes at the moment\n", RefusedRate},
		{&throttle{each: pace{time.Hour, time.Hour}, addresses: newAddressClocks()}, 2, http.StatusTooManyRequests, "too many handshakes from this address\n", RefusedRateForIP},
	} {
		t.Run(c.why.String(), func(t *testing.T) {
			s, _ := newServer(t, fanout.Config{}, Config{})
			s.throttle = c.throttle
			address := serveOn(t, s)
			for range c.in {
				connect(t, address)
			}
			for range 3 {
				p := dialPeer(t, address, from{})
				p.write([]byte(request("/ws")))
				resp, body := p.answer()
				require.Equal(t, c.status, resp.StatusCode)
				require.Equal(t, c.body, body)
				after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
				require.NoError(t, err)
				require.Positive(t, after)
			}
			require.EqualValues(t, 3, s.Stats().Refused[c.why])
			p := dialPeer(t, address, from{})
			p.write([]byte("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"))
			resp, _ := p.answer()
			require.Equal(t, http.StatusOK, resp.StatusCode, "a look whether it is ready is no handshake")
			if c.why == RefusedRateForIP {
				connectFrom(t, address, from{ip: "127.0.0.2"})
			}
		})
	}
}

func BenchmarkThrottle(b *testing.B) {
	for _, addresses := range []int{1, 10_000, 10_000_000} {
		b.Run(fmt.Sprintf("addresses=%d", addresses), func(b *testing.B) {
			th := throttleOf(b, Config{ConnectRate: MaxConnectRate, ConnectRatePerIP: 1})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n := i % addresses
				th.take(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), time.Duration(i)*time.Microsecond)
				i++
			}
		})
	}
}
