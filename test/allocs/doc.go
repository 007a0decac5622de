// Package allocs measures what code takes from the heap. Only tests import it.
package allocs
