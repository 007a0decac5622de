// Package controller decides what the cluster's metadata becomes, and proposes
// it. It owns placement, defaults, the validation of requests and the liveness
// of brokers; the log belongs to consensus, the rules that hold whatever is
// proposed to consensus/metadata.
//
// Pure cores: placement.go (which broker holds which replica), liveness.go (who
// has been silent too long), decide.go (from a request and an image to a
// command), collector.go and retention.go (what is deleted), clock.go (by which
// time), check.go (how bucket and catalogue stand to each other), shelf.go (what
// manifests list, within bounds). The [Controller] is the shell: it encodes a decision, checks it against the present image,
// proposes it and waits until it is applied here.
//
// A method returns after the change is in [Controller.Image]. Subscribers see
// images in order and never an older one after a newer; who is slow sees the
// latest and not those between (Image.ChangedTopics tells what changed). A
// broker is registered fenced, leads nothing, and is put into service by the
// first heartbeat of that registration.
//
// Errors that concern the caller are [*metadata.Error]; their codes are Kafka's.
// All methods may be called from any goroutine. One goroutine delivers images,
// one watches the heartbeats; Close ends both and waits.
package controller
