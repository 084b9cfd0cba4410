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
func TestWireDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/wire.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```conversation\n(.*?)^```").FindAllSubmatch(text, -1)
	require.Len(t, blocks, 6)
	for i, block := range blocks {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) { playConversation(t, string(block[1])) })
	}
}

// conversation is one hub and the spokes that talk to it.
type conversation struct {
	t             *testing.T
	spokes, admin string
	stop          func() error
	conns         map[string]*websocket.Conn // by the spoke's number, "" for the first
	refused       *http.Response             // the answer to the last handshake, if it was one
	token         string
	answered      int // the code with which a spoke has closed, and was answered
	closing       sync.WaitGroup
}

func playConversation(t *testing.T, text string) {
	c := &conversation{t: t, conns: make(map[string]*websocket.Conn)}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if c.token != "" && !strings.HasPrefix(line, "<") {
			line = strings.ReplaceAll(line, "<token>", c.token)
		}
		t.Log(line)
		number := ""
		if line[0] == '2' {
			number, line = "2", line[2:]
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
	require.Regexp(c.t, pattern(want), string(message))
}

// pattern makes a regular expression of a line in which <name> stands for any text.
func pattern(line string) string {
	quoted := regexp.QuoteMeta(line)
	return "^" + regexp.MustCompile(`<[a-z]+>`).ReplaceAllString(quoted, `.*`) + "$"
}
