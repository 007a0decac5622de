//go:build race

package kafka_test

const underRace = true
