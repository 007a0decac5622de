// Package transport holds what the transports have in common: which addresses
// may be bound. The transports are its sub-packages.
package transport
