// Package scripts holds tests of what scripts/ decides: which seed a run has, and what its
// last lines say of what failed.
package scripts
