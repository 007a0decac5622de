//go:build mutants

package guard

import "os"

var disabled = os.Getenv("RUSTMQ_MUTANT")

// Check reports ok, or true when name is the guard this process runs without.
func Check(name string, ok bool) bool { return ok || name == disabled }
