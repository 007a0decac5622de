// A table that can be sorted and filtered, and is smooth with ten thousand rows: of many it makes
// those that are seen. What is looked for and how it is sorted stands in the query.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { useQuery } from "../router";

export interface Column<T> {
  key: string;
  title: string;
  show: (row: T) => ComponentChildren;
  sort?: (row: T) => string | number; // without it the column cannot be sorted by
  right?: boolean; // numbers
  mono?: boolean;
}

export interface TableProps<T> {
  label: string; // what the rows are, for screen readers
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
  filter?: (row: T) => string; // the text of a row that is looked through; without it there is no filter
  sorted?: string; // the column sorted by at first, "-key" downwards
  name?: string; // of the values in the query, where a page has several tables
  empty?: ComponentChildren; // where there are no rows at all
  more?: ComponentChildren; // below the rows: how to get more
  actions?: ComponentChildren; // beside the filter
  dense?: boolean; // many columns of short values: titles may take two lines
}

const virtualFrom = 200; // rows
const rowHeight = 37; // pixels, of a virtual row (style.css)
const overscan = 12; // rows made above and below those that are seen
const viewHeight = 600; // pixels at most

// One for all comparisons: localeCompare makes another for each, which takes seconds for a list of
// ten thousand names.
const alphabet = new Intl.Collator(undefined, { numeric: true });

function compare(a: string | number, b: string | number): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return alphabet.compare(String(a), String(b));
}

export function Table<T>({ label, columns, rows, rowKey, filter, sorted = "", name = "", empty, more, actions, dense }: TableProps<T>) {
  const prefix = name ? `${name}.` : "";
  const [wanted, setWanted] = useQuery(`${prefix}q`);
  const [order, setOrder] = useQuery(`${prefix}sort`, sorted);
  const id = useId();
  const shown = useMemo(() => {
    const text = wanted.trim().toLowerCase();
    const kept = filter && text ? rows.filter((r) => filter(r).toLowerCase().includes(text)) : rows;
    const by = columns.find((c) => c.key === order.replace(/^-/, ""))?.sort;
    if (!by) return kept;
    const sign = order.startsWith("-") ? -1 : 1;
    return kept
      .map((row) => ({ row, key: by(row) }))
      .sort((a, b) => sign * compare(a.key, b.key))
      .map((r) => r.row);
  }, [rows, wanted, order, filter, columns]);

  const virtual = shown.length >= virtualFrom;
  const box = useRef<HTMLDivElement>(null);
  const [window, setWindow] = useState({ from: 0, to: 60 });
  const look = () => {
    const at = box.current;
    if (!at) return;
    const from = Math.max(0, Math.floor(at.scrollTop / rowHeight) - overscan);
    const to = Math.ceil((at.scrollTop + at.clientHeight) / rowHeight) + overscan;
    setWindow((was) => (was.from === from && was.to === to ? was : { from, to }));
  };
  useEffect(look, [virtual, shown]);
  const from = virtual ? Math.min(window.from, Math.max(0, shown.length - 1)) : 0;
  const to = virtual ? Math.min(window.to, shown.length) : shown.length;

  if (rows.length === 0 && empty) return <>{empty}</>;
  return (
    <div class="table-box">
      {(filter || actions) && (
        <div class="table-tools">
          {filter && (
            <>
              <label class="hidden" for={id}>
                Filter {label}
              </label>
              <input id={id} type="search" class="filter" placeholder="Filter" value={wanted} onInput={(e) => setWanted(e.currentTarget.value)} />
              <span class="muted" role="status">
                {shown.length === rows.length ? `${rows.length.toLocaleString("en-US")} in all` : `${shown.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")}`}
              </span>
            </>
          )}
          {actions && <div class="actions">{actions}</div>}
        </div>
      )}
      <div ref={box} class="table-scroll" tabIndex={0} role="region" aria-label={label} onScroll={virtual ? look : undefined} style={{ maxHeight: virtual ? `${viewHeight}px` : "" }}>
        <table class={[virtual && "virtual", dense && "dense"].filter(Boolean).join(" ")} aria-rowcount={virtual ? shown.length + 1 : undefined}>
          <thead>
            <tr>
              {columns.map((c) => {
                const down = order === `-${c.key}`;
                const up = order === c.key;
                return (
                  <th key={c.key} scope="col" class={c.right ? "right" : ""} aria-sort={c.sort ? (up ? "ascending" : down ? "descending" : "none") : undefined}>
                    {c.sort ? (
                      <button type="button" class="sort" onClick={() => setOrder(up ? `-${c.key}` : c.key)}>
                        {c.title}
                        <span aria-hidden="true">{up ? " ▲" : down ? " ▼" : ""}</span>
                      </button>
                    ) : (
                      c.title
                    )}
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {from > 0 && <Spacer height={from * rowHeight} columns={columns.length} />}
            {shown.slice(from, to).map((row, i) => (
              <tr key={rowKey(row)} aria-rowindex={virtual ? from + i + 2 : undefined}>
                {columns.map((c, n) => {
                  const kind = [c.right && "right", c.mono && "mono"].filter(Boolean).join(" ");
                  return n === 0 ? (
                    <th key={c.key} scope="row" class={kind}>
                      {c.show(row)}
                    </th>
                  ) : (
                    <td key={c.key} class={kind}>
                      {c.show(row)}
                    </td>
                  );
                })}
              </tr>
            ))}
            {to < shown.length && <Spacer height={(shown.length - to) * rowHeight} columns={columns.length} />}
            {shown.length === 0 && (
              <tr>
                <td colSpan={columns.length} class="muted">
                  {wanted ? "Nothing matches the filter." : "Nothing."}
                </td>
              </tr>
            )}
          </tbody>
        </table>
      </div>
      {more}
    </div>
  );
}

function Spacer({ height, columns }: { height: number; columns: number }) {
  return (
    <tr aria-hidden="true" class="spacer">
      <td colSpan={columns} style={{ height: `${height}px` }} />
    </tr>
  );
}
