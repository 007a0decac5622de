// Package transport holds what the transports have in common: which addresses
// may be bound, judged as they are written and as they were bound. The transports
// are its sub-packages.
package transport
