package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWireDocument plays the conversations of docs/wire.md against hubs.
func TestWireDocument(t *testing.T) { playDocument(t, "docs/wire.md", 7) }

// playDocument plays the conversations of a page.
func playDocument(t *testing.T, page string, conversations int) {
	played := 0
	for _, b := range blocks(documents(t, page)) {
		if b.language == "conversation" {
			played++
			t.Run(strconv.Itoa(played), func(t *testing.T) { playConversation(t, b.text) })
		}
	}
	require.Equal(t, conversations, played)
}

// conversation is one hub and who talks to it.
type conversation struct {
	t             *testing.T
	spokes, admin string
	stop          func() error
	conns         map[string]*websocket.Conn // by the spoke's number, "" for the first
	exchanges     map[string]*exchange       // with the admin address, by number
	ids           map[string]string          // of spokes, by what they are called
	refused       *http.Response             // the answer to the last handshake, if it was one
	token         string
	answered      int // the code with which a spoke has closed, and was answered
	closing       sync.WaitGroup
}

func playConversation(t *testing.T, text string) {
	c := &conversation{t: t, conns: make(map[string]*websocket.Conn), exchanges: make(map[string]*exchange), ids: make(map[string]string)}
	text = regexp.MustCompile(`\n +`).ReplaceAllString(text, "") // an indented line goes on with the one before
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if c.token != "" && !strings.HasPrefix(line, "<") {
			line = strings.ReplaceAll(line, "<token>", c.token)
		}
		line = c.known(line)
		t.Log(line)
		number := ""
		if rest, ok := strings.CutPrefix(line, "2 "); ok {
			number, line = "2", rest
		}
		if c.exchange(number, line) {
			continue
		}
		what, rest, found := strings.Cut(line, " ")
		require.True(t, found)
		switch {
		case what == "$":
			c.start(strings.Fields(rest))
		case what == "!":
			c.publish(rest)
		case what == "connect": // of another spoke
			c.connect(number, rest)
		case what == "<":
			c.get(number, rest)
		case strings.HasPrefix(rest, "connect "):
			c.connect(number, strings.TrimPrefix(rest, "connect "))
		case strings.HasPrefix(rest, "close "):
			code, err := strconv.Atoi(strings.TrimPrefix(rest, "close "))
			require.NoError(t, err)
			require.NoError(t, c.conns[number].Close(websocket.StatusCode(code), ""), "the answer has the same code")
			c.answered = code
		default:
			require.NoError(t, c.conns[number].Write(t.Context(), websocket.MessageText, []byte(rest)))
		}
	}
	for number := range c.exchanges {
		c.finish(number)
	}
	for _, conn := range c.conns {
		_ = conn.CloseNow() // most are closed
	}
	c.closing.Wait()
}

func (c *conversation) start(command []string) {
	require.Equal(c.t, []string{"hub", "serve"}, command[:2])
	args := command[2:]
	for i, arg := range args {
		if arg == "<key>" {
			args[i] = "file:" + filepath.Join(c.t.TempDir(), "key")
			require.NoError(c.t, os.WriteFile(strings.TrimPrefix(args[i], "file:"), []byte(authSecret), 0o600))
			c.token = mint(c.t, time.Hour, []string{"tick:*"}, nil)
		}
	}
	c.spokes, c.admin, c.stop = startHub(c.t, args...)
}

func (c *conversation) connect(number, target string) {
	conn, response, err := websocket.Dial(c.t.Context(), strings.TrimSuffix(c.spokes, "/ws")+target, nil)
	if err != nil {
		require.NotNil(c.t, response, "%v", err)
		c.refused = response
		return
	}
	c.conns[number] = conn
}

func (c *conversation) publish(what string) {
	if what == "drain" {
		c.closing.Go(func() { assert.NoError(c.t, c.stop()) })
		return
	}
	response, err := http.Post(c.admin+"/v1/events", "application/json", strings.NewReader(what))
	require.NoError(c.t, err)
	require.NoError(c.t, response.Body.Close())
	require.Equal(c.t, http.StatusOK, response.StatusCode)
}

// get takes what the spoke gets next and holds it against the document.
func (c *conversation) get(number, want string) {
	if status, err := strconv.Atoi(want); err == nil {
		require.NotNil(c.t, c.refused)
		require.Equal(c.t, status, c.refused.StatusCode)
		return
	}
	if c.answered != 0 { // Close has read it
		require.Equal(c.t, fmt.Sprint("close ", c.answered), want)
		return
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	_, message, err := c.conns[number].Read(ctx)
	if code, ok := strings.CutPrefix(want, "close "); ok {
		var closed websocket.CloseError
		require.ErrorAs(c.t, err, &closed, "got %s", message)
		require.Equal(c.t, code, strconv.Itoa(int(closed.Code)))
		return
	}
	require.NoError(c.t, err)
	require.True(c.t, json.Valid(message))
	c.match(want, string(message))
}

var placeholder = regexp.MustCompile(`<[a-z]+>`)

// match holds what has come against a line in which <name> stands for any text, and <spoke> and <other> for the same as before.
func (c *conversation) match(want, got string) {
	var expr strings.Builder
	names := placeholder.FindAllString(want, -1)
	for i, text := range placeholder.Split(want, -1) {
		if i > 0 {
			expr.WriteString("(.*)")
		}
		expr.WriteString(regexp.QuoteMeta(text))
	}
	found := regexp.MustCompile("^" + expr.String() + "$").FindStringSubmatch(got)
	require.NotNil(c.t, found, "%s\nis not\n%s", got, want)
	for i, name := range names {
		if name == "<spoke>" || name == "<other>" {
			c.ids[name] = found[i+1]
		}
	}
}

// known returns a line with the ids that are known in their places.
func (c *conversation) known(line string) string {
	for name, id := range c.ids {
		line = strings.ReplaceAll(line, name, id)
	}
	return line
}
