package fanout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []Config{
		{Shards: -1},
		{Shards: maxShards + 1},
		{Limits: Limits{SpokeBytes: -1}},
		{Limits: Limits{SpokeLag: -time.Second}},
		{Limits: Limits{TotalBytes: -1}},
		{SlowCloseCode: codec.CloseAbnormal}, // stands for no close frame
		{Policy: numPolicies},
		{PolicyFor: map[string]Policy{"a": numPolicies}},
		{Node: "\xff"}, // would be in every __welcome
	} {
		_, err := New(c)
		require.Error(t, err, "%+v", c)
	}
}

func TestPoliciesHaveNames(t *testing.T) {
	for p := range numPolicies {
		parsed, err := ParsePolicy(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	}
	_, err := ParsePolicy("drop")
	require.EqualError(t, err, `"drop" is not a policy, it is one of disconnect, drop-oldest, drop-newest, conflate`)
}

func TestEventsThatCannotBeSentAreErrors(t *testing.T) {
	h := newHub(t, Config{Limits: Limits{SpokeBytes: 1000}})
	s, k := connect(t, h)
	for name, test := range map[string]struct {
		e  codec.Envelope
		is error
	}{
		"too large":      {sized(t, "a:1", 1, 1001), ErrTooLarge},
		"reserved":       {codec.Envelope{Type: codec.TypeWelcome}, ErrReserved},
		"reserved, new":  {codec.Envelope{Type: "__mine"}, ErrReserved},
		"no type":        {codec.Envelope{}, nil},
		"colon in type":  {codec.Envelope{Type: "a:b"}, nil},
		"bad payload":    {codec.Envelope{Type: "a", Payload: []byte("{")}, nil},
		"bad UTF-8":      {codec.Envelope{Type: "a", Payload: []byte("\"\xff\"")}, nil},
		"long id":        {codec.Envelope{Type: "a", ID: strings.Repeat("x", 257)}, nil},
		"line separator": {codec.Envelope{Type: "a\xe2"}, nil},
	} {
		for _, dispatch := range []func(codec.Envelope) (Receipt, error){h.Dispatch, s.Dispatch,
			func(e codec.Envelope) (Receipt, error) { return h.DispatchExcept(s, e) },
			func(e codec.Envelope) (Receipt, error) {
				found, err := h.DispatchTo(s.ID(), e)
				require.False(t, found)
				return Receipt{}, err
			},
		} {
			r, err := dispatch(test.e)
			require.Error(t, err, name)
			require.Zero(t, r.Matched)
			if test.is != nil {
				require.ErrorIs(t, err, test.is, name)
				continue
			}
			var bad *codec.EnvelopeError
			require.True(t, errors.As(err, &bad), name)
		}
	}
	require.Equal(t, 1, dispatch(t, h, sized(t, "a:1", 1, 1000)))
	h.Flush()
	require.Equal(t, []string{"a:1"}, k.topics(t))
	require.Zero(t, h.Stats().PendingBytes)
	require.EqualValues(t, 1, h.Stats().Dispatched)
}

func TestDispatchToFindsItsSpoke(t *testing.T) {
	h := newHub(t, Config{Shards: 3})
	a, ka := connect(t, h)
	_, kb := connect(t, h)
	found, err := h.DispatchTo(a.ID(), event("a", "1", 2))
	require.NoError(t, err)
	require.True(t, found)
	for _, id := range []string{"", "x", "0000000000000000", "ffffffffffffffff", a.ID() + "0", a.ID()[:15], "+" + a.ID()[1:]} {
		found, err = h.DispatchTo(id, event("a", "1", 2))
		require.NoError(t, err)
		require.False(t, found, id)
	}
	_, err = h.DispatchTo("nobody", codec.Envelope{})
	require.Error(t, err)
	h.Flush()
	require.Equal(t, []string{"a:1"}, ka.topics(t))
	require.Empty(t, kb.topics(t))

	a.Detach(Cause{})
	found, err = h.DispatchTo(a.ID(), event("a", "1", 2))
	require.NoError(t, err)
	require.False(t, found)
	r, err := a.Dispatch(event("a", "1", 2))
	require.NoError(t, err)
	require.Zero(t, r.Matched)
}

func TestSpokesAreFoundByID(t *testing.T) {
	h := newHub(t, Config{Shards: 3})
	ids := make(map[string]*Spoke)
	for range 100 {
		s, _ := connect(t, h)
		require.Nil(t, ids[s.ID()])
		ids[s.ID()] = s
	}
	require.Len(t, h.Spokes(), 100)
	gone := 0
	for id, s := range ids {
		require.Same(t, s, h.Spoke(id))
		if gone++; gone%2 == 0 {
			s.Detach(Cause{})
			require.Nil(t, h.Spoke(id))
			delete(ids, id)
		}
	}
	for range 50 { // slots are used again, ids are not
		s, _ := connect(t, h)
		require.Nil(t, ids[s.ID()])
		ids[s.ID()] = s
	}
	for _, s := range h.Spokes() {
		require.Same(t, s, ids[s.ID()])
	}
	seen := 0
	h.Inspect(func(i SpokeInfo) {
		require.Contains(t, ids, i.ID)
		require.True(t, i.Everything)
		require.Equal(t, "192.0.2.1:1234", i.Remote)
		seen++
	})
	require.Equal(t, 100, seen)
}

func TestMoreThanTheHubCanWriteIsRefused(t *testing.T) {
	h := newHub(t, Config{Shards: 2, Limits: Limits{TotalBytes: 10 * (100 + itemBytes)}})
	a, ka := connect(t, h)
	_, kb := connect(t, h, "a:*")
	h.Flush()
	release := holdShards(t, h)
	for i := range 10 {
		require.Equal(t, 2, dispatch(t, h, sized(t, "a:1", i, 100)))
	}
	require.EqualValues(t, 10*(100+itemBytes), h.Stats().PendingBytes)
	for _, refused := range []func() (Receipt, error){
		func() (Receipt, error) { return h.Dispatch(sized(t, "a:2", 1, 50)) },
		func() (Receipt, error) { return a.Dispatch(sized(t, "a:2", 1, 50)) },
		func() (Receipt, error) { return h.DispatchExcept(a, sized(t, "a:2", 1, 50)) },
	} {
		r, err := refused()
		require.ErrorIs(t, err, ErrOverloaded)
		require.Zero(t, r.Matched)
	}
	a.Receive([]byte(`{"type":"__subscribe","payload":"*"}`)) // the hub's own events are not refused
	release()
	h.Flush()
	require.Zero(t, h.Stats().PendingBytes)
	require.Equal(t, 2, dispatch(t, h, sized(t, "a:3", 1, 100)))
	h.Flush()
	require.Len(t, ka.topics(t), 12)
	require.Len(t, kb.topics(t), 11)
}

func TestEventsThatNobodyWantsCostNothing(t *testing.T) {
	h := newHub(t, Config{Limits: Limits{TotalBytes: 1000}})
	_, k := connect(t, h, "a:1")
	h.Flush()
	writes := h.Stats().Writes
	for i := range 100 {
		require.Zero(t, dispatch(t, h, sized(t, "b:1", i%10, 100)))
		require.Zero(t, h.Stats().PendingBytes)
	}
	h.Flush()
	require.Equal(t, writes, h.Stats().Writes)
	require.Empty(t, k.topics(t))
}

func TestSpokesThatTakeCompressedFramesGetThem(t *testing.T) {
	d, err := codec.NewDeflater(3, 100)
	require.NoError(t, err)
	h := newHub(t, Config{Shards: 1, Deflater: d})
	plain, kp := connect(t, h)
	deflating, kd := &scriptSink{}, &scriptSink{}
	for _, k := range []*scriptSink{deflating, kd} {
		k.spoke = h.NewSpoke(k)
		k.spoke.TakeCompressed()
		require.NoError(t, k.spoke.Attach())
	}
	h.Flush()
	before := h.Stats().DeliveredBytes
	release := holdShards(t, h)
	for i := range 20 { // one pass, of small and large ones
		dispatch(t, h, sized(t, "a:1", i, 50+i*20))
	}
	release()
	h.Flush()
	_, err = kd.spoke.Dispatch(sized(t, "a:2", 21, 500)) // not by the lane
	require.NoError(t, err)
	_, err = plain.Dispatch(sized(t, "a:2", 21, 500))
	require.NoError(t, err)
	h.Flush()
	want, _ := kp.events(t)
	got, _ := kd.events(t)
	require.Equal(t, want[1:], got[1:])
	require.Less(t, len(kd.taken), len(kp.taken)/2)
	welcome := 0
	for _, k := range []*scriptSink{kp, kd, deflating} {
		welcome += len(k.taken)
	}
	require.EqualValues(t, h.Stats().DeliveredBytes, welcome)
	require.Positive(t, before)
	require.EqualValues(t, 3*20+2, h.Stats().Deliveries)

	without := newHub(t, Config{})
	k := &scriptSink{}
	k.spoke = without.NewSpoke(k)
	k.spoke.TakeCompressed() // in vain
	require.NoError(t, k.spoke.Attach())
	dispatch(t, without, sized(t, "a:1", 1, 500))
	without.Flush()
	require.Greater(t, len(k.taken), 500)
}
