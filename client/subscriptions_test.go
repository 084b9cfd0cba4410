package client

import (
	"fmt"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func subscribe(topics string) string   { return wire("__subscribe", "", `{"topics":[`+topics+`]}`) }
func unsubscribe(topics string) string { return wire("__unsubscribe", "", `{"topics":[`+topics+`]}`) }

func pattern(t *testing.T, text string) codec.Pattern {
	p, err := codec.ParsePattern(text)
	require.NoError(t, err)
	return p
}

func told(s *subscriptions) []string {
	var messages []string
	for _, message := range s.changes() {
		messages = append(messages, string(message))
	}
	return messages
}

func TestSubscriptionsTellOnlyWhatChanged(t *testing.T) {
	s := newSubscriptions(nil)
	a, b, c := pattern(t, "a:"), pattern(t, "b:1"), pattern(t, "c:1")
	require.Empty(t, told(&s))
	s.subscribe(b)
	s.subscribe(a)
	s.subscribe(a)
	require.Equal(t, []string{subscribe(`"a:*","b:1"`)}, told(&s))
	s.subscribe(a)
	require.Empty(t, told(&s))
	s.unsubscribe(b)
	s.unsubscribe(pattern(t, "never:"))
	s.subscribe(c)
	require.Equal(t, []string{subscribe(`"c:1"`), unsubscribe(`"b:1"`)}, told(&s),
		"first the new ones: in between the spoke has both")
	s.reset()
	require.Equal(t, []string{subscribe(`"a:*","c:1"`)}, told(&s))
}

func TestSubscriptionsOfTheURLAreNotToldAgain(t *testing.T) {
	a, b := pattern(t, "a:"), pattern(t, "b:")
	s := newSubscriptions([]codec.Pattern{a, b})
	require.Empty(t, told(&s))
	s.unsubscribe(a)
	require.Equal(t, []string{unsubscribe(`"a:*"`)}, told(&s))
	s.reset()
	require.Equal(t, []string{unsubscribe(`"a:*"`)}, told(&s), "the URL has subscribed to it again")
	s.unsubscribe(b)
	s.reset()
	require.Equal(t, []string{unsubscribe(`"a:*","b:*"`)}, told(&s))
}

func TestSubscriptionsStayNarrowedWhenAllAreTakenBack(t *testing.T) {
	s := newSubscriptions(nil)
	a := pattern(t, "a:")
	s.unsubscribe(a)
	require.Empty(t, told(&s), "never subscribed: still everything")
	s.subscribe(a)
	s.unsubscribe(a)
	nothing := []string{subscribe(`"a:*"`), unsubscribe(`"a:*"`)}
	require.Equal(t, nothing, told(&s))
	require.Empty(t, told(&s))
	s.reset()
	require.Equal(t, nothing, told(&s), "a new connection begins with everything")
	require.Empty(t, told(&s))
}

func TestSubscriptionsCountListeners(t *testing.T) {
	s := newSubscriptions(nil)
	a := pattern(t, "a:")
	s.listen(a, +1)
	s.listen(a, +1)
	require.Equal(t, []string{subscribe(`"a:*"`)}, told(&s))
	s.listen(a, -1)
	s.subscribe(a)
	s.listen(a, -1)
	require.Empty(t, told(&s), "wanted by Subscribe")
	s.unsubscribe(a)
	require.Equal(t, []string{unsubscribe(`"a:*"`)}, told(&s))
}

func TestSubscriptionsAreCutIntoMessages(t *testing.T) {
	s := newSubscriptions(nil)
	for i := range topicsPerMessage + 1 {
		s.subscribe(pattern(t, fmt.Sprintf("a:%03d", i)))
	}
	messages := told(&s)
	require.Len(t, messages, 2)
	require.Equal(t, subscribe(`"a:064"`), messages[1])
}

func TestSubscriptionLeavesBeforeLaterEvents(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	for i := range 50 {
		topic := fmt.Sprintf("answer:%d", i)
		require.NoError(t, c.Subscribe(topic))
		require.NoError(t, c.Dispatch(event("ask", fmt.Sprint(i), "")))
		seen := false
		for {
			message, err := s.next()
			require.NoError(t, err)
			if message == wire("ask", fmt.Sprint(i), "") {
				break
			}
			require.Equal(t, subscribe(`"`+topic+`"`), message)
			seen = true
		}
		require.True(t, seen)
	}
}

func TestResubscribesBeforeAnythingElse(t *testing.T) {
	h := newHub(t)
	h.url += "/?topic=tick:42"
	var opts Options
	status := statuses(&opts)
	c, s := h.dial(opts)
	require.Equal(t, Connected, receive(t, status).State)
	require.NoError(t, c.Subscribe("order:", "news:1"))
	s.expect(subscribe(`"news:1","order:*"`))
	require.NoError(t, c.Unsubscribe("news:1"))
	s.expect(unsubscribe(`"news:1"`))

	h.refuseWith(503)
	require.NoError(t, s.ws.Close(websocket.StatusGoingAway, ""))
	require.Equal(t, Waiting, receive(t, status).State)
	require.NoError(t, c.Dispatch(event("hello", "", "")))
	require.NoError(t, c.Subscribe("late:"))
	h.refuseWith(0)

	s = h.accept()
	require.Equal(t, "topic=tick:42", s.r.URL.RawQuery)
	s.expect(subscribe(`"late:*","order:*"`), wire("hello", "", ""))
}

func TestSubscribeListenersFollowsThem(t *testing.T) {
	c, s := newHub(t).dial(Options{SubscribeListeners: true})
	remove, err := c.AddListener("tick:42", func(codec.Envelope) {})
	require.NoError(t, err)
	s.expect(subscribe(`"tick:42"`))
	remove()
	remove()
	s.expect(unsubscribe(`"tick:42"`))
}

func TestListenersDoNotSubscribeByThemselves(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	_, err := c.AddListener("tick:42", func(codec.Envelope) {})
	require.NoError(t, err)
	require.NoError(t, c.Dispatch(event("tick", "1", "")))
	s.expect(wire("tick", "1", ""))
}

func TestSubscribeRefusesWhatIsNoPattern(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	require.Error(t, c.Subscribe("tick:1", "nocolon"))
	require.Error(t, c.Unsubscribe("__gap:"))
	require.NoError(t, c.Dispatch(event("tick", "1", "")))
	s.expect(wire("tick", "1", "")) // tick:1 was not subscribed to
}
