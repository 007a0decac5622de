// Command sbom writes what an executable of Go was built of, as a bill of materials in the
// form of CycloneDX 1.5: the same for the same executable.
//
//	sbom BINARY VERSION
package main
