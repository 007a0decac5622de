// A secret that is shown once: it is in no address, no storage and no log, and leaves the page with
// the dialog, which closes by itself when nobody does.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { Button, Command, Dialog } from "../../ui";

const shownFor = 120_000; // ms

export function Secret({ title, value, onClose, children }: { title: string; value: string; onClose: () => void; children?: ComponentChildren }) {
  useEffect(() => {
    const timer = setTimeout(onClose, shownFor);
    return () => clearTimeout(timer);
  }, []);
  return (
    <Dialog
      title={title}
      onClose={onClose}
      actions={
        <Button kind="primary" onClick={onClose}>
          I have kept it
        </Button>
      }
    >
      <p>This is shown once, for two minutes at most. Nobody can look it up later.</p>
      <Command text={value} />
      {children}
    </Dialog>
  );
}
