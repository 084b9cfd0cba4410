package examples

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// A hub behind gin. gin.WrapH makes a gin handler of the hub's.
func Example_gin() {
	hub, server := newHub(fanout.Config{})
	defer hub.Close()

	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.GET("/ws", gin.WrapH(server.Handler()))
	r.POST("/users/:user/notes", func(c *gin.Context) {
		event, err := codec.NewEnvelope("note", c.Param("user"), gin.H{"text": "hello"})
		check(err)
		receipt, err := hub.Dispatch(event)
		check(err)
		c.JSON(http.StatusAccepted, gin.H{"matched": receipt.Matched})
	})
	address, end := serve(r)
	defer end()

	fmt.Println(next("ws://"+address+"/ws", "note:ada", func() {
		post(address, "/users/ada/notes")
	}))
	check(server.Shutdown(context.Background()))
	// Output:
	// note:ada {"text":"hello"}
}
