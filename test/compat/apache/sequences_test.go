//go:build suites

package apache

// sequencesOf is every sequence there is.
func sequencesOf() []sequence {
	return []sequence{
		{name: "creating", do: creating},
		{name: "metadata", do: metadata},
		{name: "deleting", do: deleting},
		{name: "producing", do: producing},
		{name: "idempotent", do: idempotent},
		{name: "fetching", do: fetching},
		{name: "listing", do: listing},
		{name: "classic", do: classic},
		{name: "committing", do: committing},
		{name: "consumers", do: consumers},
		{name: "transacting", do: transacting},
		{name: "configuring", do: configuring},
		{name: "administering", do: administering},
		{name: "securing", do: securing},
		{name: "versions", do: versions},
		{name: "malformed", do: malformed, laps: 1},
	}
}
