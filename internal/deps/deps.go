// Package deps holds the tests of what leads where: who may import whom, and the links between documents.
package deps
