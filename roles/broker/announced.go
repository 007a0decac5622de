package broker

import (
	"slices"

	"rustmq.dev/rustmq/transport/kafka"
)

// AllVersions returns what clients of a node are told: [Broker.Versions], and
// ApiVersions, which the transport answers.
func AllVersions() []kafka.ApiVersion {
	b := Broker{apis: apisByKey()}
	versions := append(b.Versions(), kafka.OwnVersions())
	slices.SortFunc(versions, func(a, b kafka.ApiVersion) int { return int(a.Key) - int(b.Key) })
	return versions
}

// APINeeds is what an API asks of a client where authorisation is on.
type APINeeds struct {
	Key     int16
	List    []Need
	Refused string // Kafka's name of the error for who may do nothing; empty: it is served
	Hides   string // what an answer leaves out; empty: nothing
}

// AllNeeds returns the needs of every API of [AllVersions], in order of key.
func AllNeeds() []APINeeds {
	all := []APINeeds{{Key: kafka.OwnVersions().Key}}
	for _, a := range servedAPIs() {
		n := APINeeds{Key: a.key.Int16(), List: a.needs.List, Hides: a.needs.Hides}
		if a.needs.Refused != nil {
			n.Refused = a.needs.Refused.Message
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b APINeeds) int { return int(a.Key) - int(b.Key) })
	return all
}
