package embedded

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/synced"
)

const patience = 20 * time.Second

// quietly is a hub that takes no notice of what the engine tells.
type quietly struct{}

func (quietly) Receive(string, string, []byte) {}
func (quietly) Up()                            {}
func (quietly) Down(error)                     {}
func (quietly) Lost(uint64, string)            {}
func (quietly) Met()                           {}

func startAlone(t *testing.T, password string, peers ...string) (*Engine, *synced.Buffer) {
	t.Helper()
	log := &synced.Buffer{}
	e, err := New(Config{
		ID: "h" + password, Listen: "127.0.0.1:0", Peers: peers, User: "hub", Password: password,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	require.NoError(t, e.Start(quietly{}))
	t.Cleanup(e.Close)
	return e, log
}

// Hubs with different passwords stay alone: both say so, in words, and nothing else that is no trouble.
func TestHubsThatRefuseEachOtherSayWhy(t *testing.T) {
	a, refuses := startAlone(t, "one")
	b, refused := startAlone(t, "two", a.Addr().String())
	require.Eventually(t, func() bool {
		return strings.Count(refused.String(), "another hub refuses this one: --cluster-auth") > 0
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Count(refuses.String(), "this hub refuses another one: --cluster-auth") > 0
	}, patience, 10*time.Millisecond)
	require.NotZero(t, a.Refusals())
	require.NotZero(t, b.Refusals())
	for _, log := range []*synced.Buffer{refuses, refused} {
		require.Zero(t, strings.Count(log.String(), "Plaintext"), log.String())
		require.Equal(t, strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "--cluster-auth is not the same"), log.String())
	}
}

func TestARefusalIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &synced.Buffer{}
		l := &serverLog{logger: slog.New(slog.NewTextHandler(log, nil))}
		for range 121 { // two minutes
			l.Errorf("%s - Route Error %s", "127.0.0.1:6222 - rid:7", "'Authorization Violation'")
			l.Errorf("%s - %v", "127.0.0.1:4222 - cid:7", "authentication error") // no hub's
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 121, l.refusals.Load())
		require.Equal(t, 3, strings.Count(log.String(), "another hub refuses this one"), log.String())
		require.Equal(t, 121, strings.Count(log.String(), "cid:7"))
	})
}

func TestAHubThatIsNotThereIsNoErrorAndNamedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &synced.Buffer{}
		l := &serverLog{logger: slog.New(slog.NewTextHandler(log, nil))}
		for attempt := range 121 { // two minutes
			for _, address := range []string{"127.0.0.1:6222", "127.0.0.1:6223"} {
				l.Errorf("Error trying to connect to route (attempt %v): %v", attempt, "dial tcp "+address+": connect: connection refused")
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, 3, strings.Count(log.String(), "6222"), log.String())
		require.Equal(t, 6, strings.Count(log.String(), "level=WARN msg=\"another hub cannot be reached"), log.String())
		l.Errorf("anything else")
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"))
	})
}
