// Package sdk tests what the Go SDK, which depends on no such library, and others make of each other.
package sdk
