// What is said at the bottom of the screen for a while: that something was done, or was not.
import { store, useStore } from "../store";

interface Toast {
  id: number;
  text: string;
  kind: "ok" | "bad" | "info";
}

const shownFor = { ok: 5000, info: 5000, bad: 12000 }; // ms
const toasts = store<Toast[]>([]);
let last = 0;

// notify says something; it goes away by itself.
export function notify(text: string, kind: "ok" | "bad" | "info" = "ok"): void {
  const id = ++last;
  toasts.set([...toasts.get().slice(-3), { id, text, kind }]);
  setTimeout(() => dismiss(id), shownFor[kind]);
}

function dismiss(id: number): void {
  toasts.set(toasts.get().filter((t) => t.id !== id));
}

export function Toasts() {
  const all = useStore(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {all.map((t) => (
        <div key={t.id} class={`toast ${t.kind}`}>
          <span>{t.text}</span>
          <button type="button" class="toast-close" aria-label="Dismiss" onClick={() => dismiss(t.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
