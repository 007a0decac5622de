// A page: its title, in the tab too, what can be done with it, and what it shows. A page that one
// has gone to takes the focus at its title, so that a screen reader says where one is.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

let visited = false; // the first page leaves the focus where the browser has it

export function Page({ title, sub, actions, children }: { title: string; sub?: ComponentChildren; actions?: ComponentChildren; children?: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · rustmq`;
  }, [title]);
  useEffect(() => {
    if (visited) heading.current?.focus({ preventScroll: true });
    visited = true;
  }, []);
  return (
    <>
      <header class="page-head">
        <div class="page-title">
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {sub && <p class="sub">{sub}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

// Section is a part of a page under a heading of its own.
export function Section({ title, actions, children }: { title: string; actions?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <section class="card">
      <header class="card-head">
        <h2>{title}</h2>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}
