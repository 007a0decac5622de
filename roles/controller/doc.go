// Package controller decides what the cluster's metadata becomes, and proposes
// it. It owns placement, defaults, the validation of requests and the liveness
// of brokers; the log belongs to consensus, the rules that hold whatever is
// proposed to consensus/metadata.
//
// Of several controllers the one that consensus has lead decides, once it knows all that
// was decided before it: the others, and a leader that is still to begin, refuse with
// NotController whatever proposes or judges (see leads). Duties begin and end with the
// term (reign.go): liveness, feature levels, the bucket's keeper and its shipper. What
// only reads an image is anybody's: Image, Subscribe, and state of the bucket as this
// controller knows it, which is the leader's alone to know well.
//
// Pure cores: reign.go (whether this controller leads), placement.go (which broker holds
// which replica), rebalance.go and grow.go (which should), balance.go (who should lead
// what, by load), disks.go (whose disk is too slow to lead), liveness.go (who has been silent
// too long, or has gone), decide.go (from a request and an image to a
// command), collector.go and retention.go (what is deleted), clock.go (by which
// time), check.go (how bucket and catalogue stand to each other), shelf.go (what
// manifests list, within bounds). The [Controller] is the shell: it encodes a decision, checks it against the present image,
// proposes it and waits until it is applied here.
//
// A method returns after the change is in [Controller.Image]. Subscribers see
// images in order and never an older one after a newer; who is slow sees the
// latest and not those between (Image.ChangedTopics tells what changed). A
// broker is registered fenced, leads nothing, and is put into service by the
// first heartbeat of that registration. Every controller hears brokers, and goes on with
// their sessions when it begins to lead; a heartbeat is answered once a majority has
// confirmed that its leader leads (docs/design/0015).
//
// A controller whose cluster was brought back from its bucket as another life refuses
// everything with PolicyViolation, see Ended; one that leads looks for that, and answers who
// asks whether the cluster lives (life.go).
//
// Errors that concern the caller are [*metadata.Error]; their codes are Kafka's.
// All methods may be called from any goroutine. One goroutine delivers images, one
// follows who leads, one keeps sessions, one asks whether this one leads, one waits until
// the controller has arrived, and two keep the bucket. While this one leads, one watches
// the heartbeats, one evens what brokers lead, one lets the feature level rise. Close ends
// all and waits.
package controller
