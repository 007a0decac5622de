// Package scripts holds tests of what scripts/ decides: which seed a run has, what its
// last lines say of what failed, and when the console is built.
package scripts
