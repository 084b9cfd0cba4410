package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Token is what a token is to say; see Mint.
type Token struct {
	Subject          string
	Topics, Publish  []string // nil leaves the claim out
	Issuer, Audience string
	Expires          time.Time
}

// Mint returns a token signed with a secret for HS256, as Config.Key has it. What a hub would not take is refused: a
// pattern that is none, more of them than a token may have, a subject that is too long.
func Mint(secret []byte, t Token) (string, error) {
	k, err := parseKey(secret)
	if err != nil {
		return "", err
	}
	if _, ok := k.public.([]byte); !ok {
		return "", errors.New("auth: this is a public key, which signs nothing; tokens are made with a secret")
	}
	read := tokenClaims{RegisteredClaims: jwt.RegisteredClaims{Subject: t.Subject, ExpiresAt: jwt.NewNumericDate(t.Expires)}}
	if t.Topics != nil {
		read.Topics = &t.Topics
	}
	if t.Publish != nil {
		read.Publish = &t.Publish
	}
	if _, err := read.allowed(); err != nil {
		return "", err
	}
	claims := jwt.MapClaims{"sub": t.Subject, "exp": t.Expires.Unix()}
	set := func(name string, value any, there bool) {
		if there {
			claims[name] = value
		}
	}
	set("topics", t.Topics, t.Topics != nil)
	set("publish", t.Publish, t.Publish != nil)
	set("iss", t.Issuer, t.Issuer != "")
	set("aud", t.Audience, t.Audience != "")
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(k.public)
	if err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	return token, nil
}
