// Package coordinatortest is for tests of coordinators: a [Log] in memory that holds
// appends back, refuses them, and keeps what was trimmed, as a test wants it.
//
// Only tests import it. Log's methods may be called from any goroutine; its fields are
// changed in [Log.Set], and read while nothing runs.
package coordinatortest
