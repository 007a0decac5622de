// Tabs: one of several views of the same thing, named in the query so that a link shows it.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { useQuery } from "../router";

export interface Tab {
  id: string;
  title: string;
  show: () => ComponentChildren;
}

export function Tabs({ tabs, name = "tab", label }: { tabs: Tab[]; name?: string; label: string }) {
  const base = useId();
  const [asked, setAsked] = useQuery(name, tabs[0]?.id ?? "");
  const at = Math.max(0, tabs.findIndex((t) => t.id === asked));
  const shown = tabs[at];
  const row = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // On a phone they scroll: the one that is shown is to be seen.
    const list = row.current;
    const tab = list?.querySelector<HTMLElement>("[aria-selected=true]");
    if (!list || !tab) return;
    const over = tab.getBoundingClientRect().right - list.getBoundingClientRect().right;
    if (over > 0) list.scrollLeft += over;
  }, [at, tabs.length]);
  const go = (list: HTMLElement, to: number) => {
    const next = (to + tabs.length) % tabs.length;
    setAsked(tabs[next]?.id ?? "");
    list.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus();
  };
  return (
    <div class="tabs">
      <div
        ref={row}
        role="tablist"
        aria-label={label}
        class="tablist"
        onKeyDown={(e) => {
          const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[e.key];
          if (to === undefined) return;
          e.preventDefault();
          go(e.currentTarget, to);
        }}
      >
        {tabs.map((t, i) => (
          <button key={t.id} type="button" role="tab" id={`${base}-${t.id}`} aria-selected={i === at} aria-controls={i === at ? `${base}-panel` : undefined} tabIndex={i === at ? 0 : -1} class="tab" onClick={() => setAsked(t.id)}>
            {t.title}
          </button>
        ))}
      </div>
      {shown && (
        <div key={shown.id} role="tabpanel" id={`${base}-panel`} aria-labelledby={`${base}-${shown.id}`} class="tabpanel">
          {shown.show()}
        </div>
      )}
    </div>
  );
}
