// Package pipeline says which modules the records of a topic pass, and what comes of what
// they decide: a batch goes in, and comes out with records gone, changed, or on their way
// to other topics. It knows no WebAssembly, no log and no network; modules are
// [Transformer]s, and where records go the caller sees to.
//
// A [Spec] says for which topics a module is, for which of their records, when in relation
// to others, and what its failures mean. A [Set] is what is active on a broker, a
// [Pipeline] what of it is for one topic. [Pipeline.Run] has one batch pass:
//
//	conditions   decided on the records as they lie in the batch; where no module is for any
//	             of them, the batch is the very bytes that came
//	stages       0, 1, 2: each has what the one before left; the modules of one are asked in
//	             order of priority, and all of them see the records as they came into it
//	joining      reject beats drop beats route beats keep; of several that say as much, and
//	             of several replacements of one part, that of the higher priority holds
//	policy       what a module rejects, or fails on, refuses the batch, stays as if the
//	             module were not there, or goes to the dead-letter topic
//	rewriting    once, behind the last stage
//
// Invariants:
//   - Nobody writes to the batch that came. One of which nothing changed comes out as it
//     came, whatever was asked; what replaces a part by the same changes nothing.
//   - A batch that comes out has offsets, last offset delta, producer, sequence and
//     timestamps of the one that came (RULES 2.4); what is gone leaves a hole.
//   - A batch of a transaction reaches no other topic: one that would is refused.
//   - Modules see and decide what fits bounds that stand in run.go.
//   - A record goes to one other topic at most, and to those that the spec names.
//   - Failures are those of modules alone. That a module is not there yet, or is busy, that
//     a topic takes no records, or the client is gone, counts for no error budget.
//
// A Set, a Pipeline and a Spec that was validated are safe for concurrent use; a
// Transformer has to be.
package pipeline
