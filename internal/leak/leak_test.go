package leak

import (
	"net"
	"os"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestDescriptorsAreCountedByWhatTheyReferTo(t *testing.T) {
	before := Descriptors()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	during := Descriptors()
	if got := during["socket"] - before["socket"]; got != 1 {
		t.Errorf("%d sockets more, want 1", got)
	}
	if got := during[os.DevNull] - before[os.DevNull]; got != 1 {
		t.Errorf("%s open %d times more, want 1", os.DevNull, got)
	}
	_ = ln.Close()
	_ = f.Close()
	if err := AwaitDescriptors(before); err != nil {
		t.Error(err)
	}
}
