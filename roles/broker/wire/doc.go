// Package wire reads the bodies of Produce and Fetch requests and writes those
// of their responses, for every version that the broker serves. These two carry
// all data; the generated codec of kmsg, used for every other API, would
// allocate for each topic and partition and copy the records.
//
// It owns no memory: what a parsed request names (topic names, records) aliases
// the request's body, and is valid as long as that is. A request value is
// reused for the next request; its slices grow to the largest one seen.
//
// Parsing is bounded by its input: an array is read element by element, and a
// count that the remaining bytes cannot hold ends it. What kmsg accepts, this
// package reads with equal result, and what it writes kmsg reads back equal;
// fuzzing holds both. Tagged fields that no broker of ours acts upon are
// stepped over.
//
// Nothing here is safe for concurrent use.
package wire
