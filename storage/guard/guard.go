//go:build !mutants

package guard

// Check reports ok. The name takes effect only in a build with the tag mutants.
func Check(_ string, ok bool) bool { return ok }
