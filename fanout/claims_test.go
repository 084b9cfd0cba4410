package fanout

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func patterns(t testing.TB, texts ...string) []codec.Pattern {
	t.Helper()
	list := make([]codec.Pattern, len(texts))
	for i, text := range texts {
		list[i] = pattern(t, text)
	}
	return list
}

// connectAs attaches a spoke that is held to claims.
func connectAs(t testing.TB, h *Hub, c Claims, topics ...string) (*Spoke, *scriptSink) {
	t.Helper()
	k := &scriptSink{}
	k.spoke = h.NewSpoke(k)
	k.spoke.Restrict(c)
	require.NoError(t, k.spoke.Attach(patterns(t, topics...)...))
	return k.spoke, k
}

// problems returns the codes of the answers, by the type where there is none.
func problems(t testing.TB, answers []codec.Envelope) (codes []string) {
	t.Helper()
	for _, e := range answers {
		var fault codec.Error
		require.NoError(t, e.Decode(&fault))
		if fault.Code == "" {
			fault.Code = e.Type
		}
		codes = append(codes, fault.Code)
	}
	return codes
}

func TestClaimsCoverWhatTheirPatternsDo(t *testing.T) {
	for _, test := range []struct {
		claims  []string
		covered []string
		beyond  []string
	}{
		{nil, nil, []string{"*", "a:*", "a:1"}},
		{[]string{"*"}, []string{"*", "a:*", "a:1"}, nil},
		{[]string{"a:1", "a:2"}, []string{"a:1", "a:2"}, []string{"*", "a:*", "a:3", "b:1"}},
		{[]string{"a:", "b:1"}, []string{"a:*", "a:1", "a:*:1", "b:1"}, []string{"*", "b:*", "b:2", "ab:1", "a*:1"}},
		{[]string{"a:1", "a:*", "*", "b:1"}, []string{"*", "a:1", "c:9"}, nil},
	} {
		c := Claims{Topics: patterns(t, test.claims...)}
		for _, p := range test.covered {
			require.NoError(t, c.Allow(pattern(t, p)), "%s of %v", p, test.claims)
		}
		for _, p := range test.beyond {
			require.ErrorIs(t, c.Allow(pattern(t, p)), ErrForbidden, "%s of %v", p, test.claims)
		}
	}
}

func TestBroadcastsReachASpokeOnlyWithinItsClaims(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connectAs(t, h, Claims{Subject: "ada", Topics: patterns(t, "tick:*", "order:1")})
	require.Equal(t, "ada", s.Subject())
	require.Equal(t, 1, dispatch(t, h, event("tick", "1", 2)))
	require.Zero(t, dispatch(t, h, event("order", "2", 2)))
	require.Equal(t, 1, dispatch(t, h, event("order", "1", 2)))
	require.Zero(t, dispatch(t, h, event("secret", "", 2)))
	_, err := s.Dispatch(event("secret", "", 2))
	require.NoError(t, err, "what is meant for one spoke is the program's own decision")
	h.Flush()
	require.Equal(t, []string{"tick:1", "order:1", "secret:"}, k.topics(t))
	got, everything := s.Topics()
	require.False(t, everything)
	require.Equal(t, patterns(t, "order:1", "tick:*"), got)
	require.Equal(t, "ada", s.Info().Subject)
}

func TestSubscriptionsBeyondClaimsAreForbidden(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connectAs(t, h, Claims{Topics: patterns(t, "tick:*", "order:1")})
	for _, topics := range []string{`"*"`, `"order:*"`, `"order:2"`, `{"topics":["tick:1","secret:1"]}`} {
		s.Receive([]byte(`{"type":"__subscribe","id":"7","payload":` + topics + `}`))
	}
	require.ErrorIs(t, s.Subscribe(codec.Everything), ErrForbidden)
	got := answers(t, h, k)
	require.Equal(t, []string{"forbidden", "forbidden", "forbidden", "forbidden"}, problems(t, got))
	require.Equal(t, "7", got[3].ID)
	require.Contains(t, string(got[3].Payload), "secret:1 is beyond")
	require.EqualValues(t, 4, h.Stats().Forbidden["subscription"])
	require.Equal(t, 1, dispatch(t, h, event("order", "1", 2)), "none of it has happened")
	require.NoError(t, s.Subscribe(patterns(t, "tick:1")...))
	require.Zero(t, dispatch(t, h, event("order", "1", 2)))
	require.Equal(t, 1, dispatch(t, h, event("tick", "1", 2)))

	k = &scriptSink{}
	k.spoke = h.NewSpoke(k)
	k.spoke.Restrict(Claims{Topics: patterns(t, "tick:1")})
	require.ErrorIs(t, k.spoke.Attach(patterns(t, "tick:1", "tick:2")...), ErrForbidden)
	require.Equal(t, 1, h.Stats().Spokes)
}

func TestEverythingIsWhatClaimsAllowUntilItIsUnsubscribed(t *testing.T) {
	h := newHub(t, Config{})
	s, _ := connectAs(t, h, Claims{Topics: patterns(t, "tick:*")})
	s.Unsubscribe(pattern(t, "tick:*"))
	require.Equal(t, 1, dispatch(t, h, event("tick", "1", 2)), "it has not subscribed to that")
	s.Unsubscribe(codec.Everything)
	require.Zero(t, dispatch(t, h, event("tick", "1", 2)))

	s, _ = connectAs(t, h, Claims{Topics: []codec.Pattern{codec.Everything}})
	_, everything := s.Topics()
	require.True(t, everything)
	require.NoError(t, s.Subscribe(pattern(t, "a:1")))
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
	require.Zero(t, dispatch(t, h, event("a", "2", 2)))

	explicit := newHub(t, Config{Explicit: true})
	s, _ = connectAs(t, explicit, Claims{Topics: patterns(t, "tick:*")})
	require.Zero(t, dispatch(t, explicit, event("tick", "1", 2)))
	require.NoError(t, s.Subscribe(pattern(t, "tick:*")))
	require.Equal(t, 1, dispatch(t, explicit, event("tick", "1", 2)))
}

func TestEventsBeyondClaimsReachNobody(t *testing.T) {
	h := newHub(t, Config{})
	var got []string
	_, err := h.AddListener("*", func(_ *Spoke, e codec.Envelope) { got = append(got, e.Topic()) })
	require.NoError(t, err)
	tap := h.Tap()
	defer tap.Close()
	s, k := connectAs(t, h, Claims{Publish: patterns(t, "ask:*", "vote:1")})
	for _, e := range []string{`"ask","id":"1"`, `"ask"`, `"vote","id":"1"`, `"vote","id":"2"`, `"vote"`, `"admin","id":"1"`} {
		s.Receive([]byte(`{"type":` + e + `}`))
	}
	require.Equal(t, []string{"ask:1", "ask:", "vote:1"}, got)
	refused := answers(t, h, k)
	require.Equal(t, []string{"forbidden", "forbidden", "forbidden"}, problems(t, refused))
	require.Equal(t, "2", refused[0].ID)
	require.Contains(t, string(refused[0].Payload), "vote:2 is beyond")
	st := h.Stats()
	require.EqualValues(t, 3, st.Forbidden["event"])
	require.EqualValues(t, 3, st.Received)
	require.Zero(t, st.Refused, "they are envelopes")
}

// renewing returns a hub whose tokens are the keys of a map.
func renewing(t testing.TB, tokens map[string]Claims) *Hub {
	return newHub(t, Config{Renew: func(token string) (Claims, error) {
		if c, ok := tokens[token]; ok {
			return c, nil
		}
		if token == "later" {
			return Claims{}, fmt.Errorf("%w: no keys", ErrAuthUnavailable)
		}
		return Claims{}, errors.New("the token is bad: \xff")
	}})
}

func auth(s *Spoke, token string) {
	s.Receive(fmt.Appendf(nil, `{"type":"__auth","id":"a","payload":{"token":%q}}`, token))
}

func TestAFreshTokenReplacesTheClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := func(expires time.Duration, topics ...string) Claims {
			return Claims{Subject: "ada", Topics: patterns(t, topics...), Publish: patterns(t, topics...), Expires: time.Now().Add(expires)}
		}
		someone := claims(time.Hour, "*")
		someone.Subject = "bob"
		h := renewing(t, map[string]Claims{
			"longer": claims(time.Hour, "a:*"), "narrower": claims(time.Hour, "a:1", "b:1"),
			"bob": someone, "expired": claims(0, "*"),
		})
		s, k := connectAs(t, h, claims(time.Minute, "a:*"))
		h.Flush()
		events, _ := k.events(t)
		require.JSONEq(t, `{"spoke":"`+s.ID()+`","node":"","expiresInMs":60000}`, string(events[0].Payload))
		time.Sleep(59 * time.Second)
		require.False(t, s.Expired())
		auth(s, "longer")
		got := answers(t, h, k)
		require.Equal(t, "a", got[0].ID)
		require.Equal(t, `{"expiresInMs":3541000}`, string(got[0].Payload))
		time.Sleep(time.Minute)
		require.False(t, s.Expired())

		require.NoError(t, s.Subscribe(patterns(t, "a:1", "a:*", "a:2")...))
		auth(s, "narrower")
		got = answers(t, h, k)[1:]
		require.Equal(t, `{"expiresInMs":3481000,"unsubscribed":["a:*","a:2"]}`, string(got[0].Payload))
		require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
		require.Zero(t, dispatch(t, h, event("b", "1", 2)), "it has not subscribed to that")
		s.Receive([]byte(`{"type":"a","id":"3"}`))

		for _, token := range []string{"bob", "expired", "bad", "later"} {
			auth(s, token)
		}
		auth(s, "")
		s.Receive([]byte(`{"type":"__auth"}`))
		require.Equal(t, []string{"a", "forbidden", "unauthenticated", "unauthenticated", "unauthenticated", "unavailable", "bad_envelope", "bad_envelope"},
			append([]string{"a"}, problems(t, answers(t, h, k)[3:])...))
		require.Equal(t, "ada", s.Subject())
		time.Sleep(3481*time.Second - time.Nanosecond)
		require.False(t, s.Expired(), "nothing of that has changed anything")
		time.Sleep(time.Nanosecond)
		require.True(t, s.Expired())
		auth(s, "longer")
		s.Receive([]byte(`{"type":"a","id":"1"}`))
		require.Equal(t, []string{"unauthenticated", "forbidden"}, problems(t, answers(t, h, k)[10:]), "too late")
	})
}

func TestASpokeWithoutSubscriptionsFollowsItsClaims(t *testing.T) {
	h := renewing(t, map[string]Claims{"b": {Topics: patterns(t, "b:*")}, "all": {Topics: patterns(t, "*")}, "none": {}})
	s, _ := connectAs(t, h, Claims{Topics: patterns(t, "a:*")})
	for _, step := range []struct {
		token string
		a, b  int
	}{{"b", 0, 1}, {"all", 1, 1}, {"none", 0, 0}, {"b", 0, 1}} {
		auth(s, step.token)
		require.Equal(t, step.a, dispatch(t, h, event("a", "1", 2)), step.token)
		require.Equal(t, step.b, dispatch(t, h, event("b", "1", 2)), step.token)
	}
	s.Detach(Cause{})
	for _, sh := range h.shards {
		require.Empty(t, sh.index.sets)
		require.Empty(t, sh.index.all.spokes)
	}
}

func TestThereIsNoTokenToRenewWithoutClaims(t *testing.T) {
	h := renewing(t, map[string]Claims{"all": {Topics: patterns(t, "*")}})
	s, k := connect(t, h)
	auth(s, "all")
	require.Equal(t, []string{"bad_envelope"}, problems(t, answers(t, h, k)))
	require.False(t, s.Expired())
	require.Empty(t, s.Subject())
}

func TestTheSubjectIsKnownToBothCallbacks(t *testing.T) {
	var seen []string
	h := newHub(t, Config{
		OnConnection:    func(s *Spoke) { seen = append(seen, "+"+s.Subject()) },
		OnDisconnection: func(s *Spoke, _ Cause) { seen = append(seen, "-"+s.Subject()) },
	})
	s, _ := connectAs(t, h, Claims{Subject: "ada"})
	s.Detach(Cause{})
	require.Equal(t, []string{"+ada", "-ada"}, seen)
}
