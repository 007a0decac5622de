// Command sbom writes what an executable of Go was built of, as a bill of materials in the
// form of CycloneDX 1.5: modules of Go, as the executable names them, and of the packages that a
// lock file of npm names those that it embeds. The same for the same executable.
//
//	sbom BINARY VERSION LOCK
package main
