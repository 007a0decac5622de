// Package recovery brings a cluster back from its bucket, when the metadata log of its
// controllers is lost. It reads the log's copy there and the objects that were uploaded
// and never committed, says what that comes to ([Read]), and, when told so, ends the life
// of the cluster that wrote it and begins the next ([Plan.Begin]). It knows no data
// directory, no process and no command line.
//
// The log of one life lies under <cluster>/<incarnation>/meta/. The next life begins with
// an entry of its own incarnation, a snapshot, at the next number of that log: it is put if
// absent, so that of two that recover at once one succeeds, and a controller of the life
// before finds its number taken and neither commits nor deletes from then on. Entries
// behind that one go under the prefix of the new incarnation.
//
// Promises. Read changes nothing. What is damaged is an error that names its key, and
// never taken for absent: only an upload that was never committed is left out when it is
// not whole. Ask puts a question beside the log, which a controller that lives answers, and
// takes it back then. Begin changes nothing but that question and that one key. All calls
// block on the bucket.
package recovery
