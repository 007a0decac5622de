// Package storage holds the few words that every storage room, and every room
// above, uses for the same things: offsets, epochs, ids of topics and of objects.
// It has no behaviour and imports nothing of rustmq.
//
// Concurrency: all of them are values.
package storage
