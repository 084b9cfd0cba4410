package fleet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testClients = 200
	testEvents  = 500
)

func TestFloorDeliversEveryEventOnceInOrder(t *testing.T) {
	f := Launch(t)
	l := ConnectFloor(t, f, Clients{Reading: testClients, Checked: 1})
	for _, load := range []Load{
		{Window: 1, Events: testEvents},
		{Window: 64, Events: testEvents + 1}, // the last window is not full
		{Events: 20, Every: time.Millisecond},
		{Window: 4, For: 10 * time.Millisecond},
	} {
		load.Event = testEvent(256)
		load.Event.GroupAt = 0
		n, err := l.Measure(load)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n.Events, uint64(load.Events))
		require.EqualValues(t, testClients*n.Events, n.Deliveries)
		require.Equal(t, f.TakersOf(n.Events), n.Deliveries)
		require.Positive(t, n.CPU)
		require.Positive(t, n.Writes)
		require.Positive(t, n.P50)
		require.LessOrEqual(t, n.P50, n.P99)
		require.LessOrEqual(t, n.P99, n.Max)
	}
}

func TestFloorWritesWhatTheKernelDidNotTake(t *testing.T) {
	l := ConnectFloor(t, Launch(t), Clients{Reading: 3, Checked: 1})
	ev := testEvent(60000)
	ev.GroupAt = 0
	n, err := l.Measure(Load{Event: ev, Window: 200, Events: 400})
	require.NoError(t, err)
	require.EqualValues(t, 3*400, n.Deliveries)
}

func TestBurstIsReadWhenItHasBeenWritten(t *testing.T) {
	f := Launch(t)
	l := ConnectFloor(t, f, Clients{Reading: testClients, Checked: 1})
	ev := testEvent(256)
	ev.GroupAt = 0
	n, err := l.Measure(Load{Event: ev, Burst: 4, Events: 42})
	require.NoError(t, err)
	require.EqualValues(t, testClients*42, n.Deliveries)
	require.EqualValues(t, testClients*11, n.Writes) // the last burst is not full
	// Whoever reads while it is written has the first event long before the last.
	require.Greater(t, n.P50, n.Wall/2)
}

func TestFloorDeliversToGroups(t *testing.T) {
	const groups = 30
	f := Launch(t)
	l := ConnectFloor(t, f, Clients{Reading: testClients, Checked: 1, Groups: groups, Path: "/ws?topic=tick:" + GroupMark})
	n, err := l.Measure(Load{Event: testEvent(100), Window: 50, Events: testEvents})
	require.NoError(t, err)
	require.EqualValues(t, testEvents, n.Events)
	require.Equal(t, f.TakersOf(testEvents), n.Deliveries)
	// 200 clients are 20 groups of 7 and 10 of 6.
	require.EqualValues(t, 16*200+20*7, n.Deliveries)
}

func TestFloorAcceptsAgain(t *testing.T) {
	f := Launch(t)
	l := StartFloor(t, f)
	for range 2 {
		n, err := l.Connect(Clients{Reading: 50, AtOnce: 50})
		require.NoError(t, err)
		require.EqualValues(t, 50, n.Deliveries)
		require.Positive(t, n.Elapsed)
		_, err = f.Disconnect()
		require.NoError(t, err)
	}
}

func TestFloorTakesOthersInTheirPlace(t *testing.T) {
	l := StartFloor(t, Launch(t))
	ev := testEvent(100)
	ev.GroupAt = 0
	for _, clients := range []int{50, 20, 70} {
		_, err := l.Connect(Clients{Reading: clients, Checked: 1})
		require.NoError(t, err)
		n, err := l.Measure(Load{Event: ev, Window: 4, Events: 40})
		require.NoError(t, err)
		require.EqualValues(t, 40*clients, n.Deliveries)
	}
}

func TestAnswerIsThatOfTheExample(t *testing.T) {
	require.Contains(t, string(appendAnswer(nil, []byte(exampleKey))), "Sec-WebSocket-Accept: "+acceptKey+"\r\n")
}
