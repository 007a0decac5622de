// Dialogs: the browser's own, which keep the focus within and end by Escape.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { useAction } from "../hooks";
import { Button, Field, Form } from "./form";
import { ProblemView } from "./show";

export interface DialogProps {
  title: string;
  onClose: () => void;
  actions?: ComponentChildren;
  wide?: boolean;
  children?: ComponentChildren;
}

// Dialog is open for as long as it is shown; the focus goes back to where it was.
export function Dialog({ title, onClose, actions, wide, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      class={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onClose={onClose}
    >
      <header class="dialog-head">
        <h2 id={id}>{title}</h2>
        <Button small label="Close" onClick={onClose}>
          ✕
        </Button>
      </header>
      <div class="dialog-body">{children}</div>
      {actions && <footer class="dialog-foot">{actions}</footer>}
    </dialog>
  );
}

export interface ConfirmProps {
  title: string;
  action: string; // the word on the button
  danger?: boolean;
  wide?: boolean;
  typed?: string; // what has to be written before it is done, of what destroys
  wrong?: boolean; // what is asked for in the dialog cannot be done
  onConfirm: () => Promise<void>; // the dialog closes after it, or shows what went wrong
  onClose: () => void;
  children?: ComponentChildren; // what will happen
}

export function Confirm({ title, action, danger, wide, typed, wrong, onConfirm, onClose, children }: ConfirmProps) {
  const [text, setText] = useState("");
  const { go, busy, error } = useAction(async () => {
    await onConfirm();
    onClose();
  });
  const ready = !wrong && (typed === undefined || text === typed);
  return (
    <Dialog title={title} wide={wide} onClose={onClose}>
      <Form onSubmit={() => ready && !busy && go()}>
        {children}
        {typed !== undefined && (
          <>
            <p>
              To go on, write <code class="name">{typed}</code>:
            </p>
            <Field label="Name" value={text} onInput={setText} autoFocus mono />
          </>
        )}
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={danger || typed !== undefined ? "danger" : "primary"} disabled={!ready} busy={busy}>
            {action}
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
