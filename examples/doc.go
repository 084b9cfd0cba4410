// Package examples shows the hub inside other programs, one file for each way of using it. They are
// tests: what they print is checked. The package is a module of its own, so that the frameworks in it
// are not among the hub's dependencies.
package examples
