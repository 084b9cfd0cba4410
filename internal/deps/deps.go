// Package deps holds the test of who may import whom.
package deps
