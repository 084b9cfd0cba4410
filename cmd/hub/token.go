package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/alkdev/hub/auth"
	"github.com/alkdev/hub/codec"
)

const tokenSynopsis = `hub token: make a token for a spoke, to try things out.

  export HUB_AUTH_JWT_KEY=$(openssl rand -hex 32)
  hub serve &
  hub tail --token $(hub token --sub ada --topics 'tick:*')

It is signed with the secret that hub serve has as --auth-jwt-key.`

func token(_ context.Context, args []string) error {
	var key []byte
	var t auth.Token
	ttl := time.Hour
	f := newFlags("token", tokenSynopsis)
	addAuthKey(f, &key, "what hub serve has")
	add(f, &t.Subject, "sub", "who the spoke is", parseText, showText)
	add(f, &t.Topics, "topics", "patterns that it may receive, with commas between them; everything if empty", parsePatterns, showList)
	add(f, &t.Publish, "publish", "patterns that it may send; nothing if empty", parsePatterns, showList)
	add(f, &t.Issuer, "auth-issuer", "issuer (iss)", parseText, showText)
	add(f, &t.Audience, "auth-audience", "audience (aud)", parseText, showText)
	add(f, &ttl, "ttl", "how long the token is good", duration(time.Second, 365*24*time.Hour), showDuration)
	if _, err := parseFlags(f, args, 0); err != nil {
		return err
	}
	if len(key) == 0 {
		return &usageError{fmt.Errorf("--auth-jwt-key is needed, or %s", envName("auth-jwt-key"))}
	}
	for _, pattern := range slices.Concat(t.Topics, t.Publish) {
		warnOfStars("token", pattern)
	}
	t.Expires = time.Now().Add(ttl)
	text, err := auth.Mint(key, t)
	if err != nil {
		return err
	}
	fmt.Println(text)
	return nil
}

// parsePatterns reads patterns with commas between them, which a hub will read in the token.
func parsePatterns(s string) ([]string, error) {
	patterns, _ := parseList(s)
	for _, pattern := range patterns {
		if _, err := codec.ParsePattern(pattern); err != nil {
			return nil, err
		}
	}
	return patterns, nil
}
