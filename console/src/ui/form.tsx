// What one presses, writes and chooses.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export interface ButtonProps {
  children: ComponentChildren;
  onClick?: () => void;
  kind?: "primary" | "danger" | "plain";
  type?: "button" | "submit";
  disabled?: boolean;
  busy?: boolean;
  small?: boolean;
  label?: string; // for screen readers, where what is shown does not say it
  title?: string;
  pressed?: boolean;
}

export function Button({ children, onClick, kind = "plain", type = "button", disabled, busy, small, label, title, pressed }: ButtonProps) {
  return (
    <button
      type={type}
      class={`button ${kind}${small ? " small" : ""}`}
      disabled={disabled || busy}
      aria-busy={busy}
      aria-label={label}
      aria-pressed={pressed}
      title={title}
      onClick={onClick && (() => onClick())}
    >
      {children}
      {busy && "…"}
    </button>
  );
}

export interface FieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "number" | "password" | "search" | "datetime-local";
  hint?: ComponentChildren;
  error?: string;
  required?: boolean;
  disabled?: boolean;
  placeholder?: string;
  rows?: number; // a text of several lines
  name?: string;
  autoComplete?: "username" | "current-password" | "new-password" | "off";
  autoFocus?: boolean;
  min?: number;
  max?: number;
  maxLength?: number;
  mono?: boolean; // of one width
  list?: string[]; // suggestions
}

export function Field(p: FieldProps) {
  const id = useId();
  const said = [p.hint && `${id}-hint`, p.error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  const shared = {
    id,
    name: p.name,
    value: p.value,
    required: p.required,
    disabled: p.disabled,
    placeholder: p.placeholder,
    maxLength: p.maxLength,
    class: p.mono ? "mono" : undefined,
    autoFocus: p.autoFocus,
    spellcheck: false,
    "aria-describedby": said,
    "aria-invalid": p.error ? true : undefined,
  };
  return (
    <div class="field">
      <label for={id}>
        {p.label}
        {p.required && <span class="muted"> (required)</span>}
      </label>
      {p.rows ? (
        <textarea {...shared} rows={p.rows} onInput={(e) => p.onInput(e.currentTarget.value)} />
      ) : (
        <input {...shared} type={(p.type ?? "text") as "text"} autocomplete={p.autoComplete ?? "off"} min={p.min} max={p.max} list={p.list && `${id}-list`} onInput={(e) => p.onInput(e.currentTarget.value)} />
      )}
      {p.list && (
        <datalist id={`${id}-list`}>
          {p.list.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
      {p.hint && (
        <p class="hint" id={`${id}-hint`}>
          {p.hint}
        </p>
      )}
      {p.error && (
        <p class="field-error" id={`${id}-error`}>
          {p.error}
        </p>
      )}
    </div>
  );
}

export interface SelectProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: (string | { value: string; label: string })[];
  hint?: ComponentChildren;
  disabled?: boolean;
}

export function Select({ label, value, onChange, options, hint, disabled }: SelectProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} disabled={disabled} aria-describedby={hint ? `${id}-hint` : undefined} onChange={(e) => onChange(e.currentTarget.value)}>
        {options.map((o) => {
          const one = typeof o === "string" ? { value: o, label: o } : o;
          return (
            <option key={one.value} value={one.value} selected={one.value === value}>
              {one.label}
            </option>
          );
        })}
      </select>
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

export function Check({ label, checked, onChange, hint, disabled }: { label: ComponentChildren; checked: boolean; onChange: (checked: boolean) => void; hint?: ComponentChildren; disabled?: boolean }) {
  const id = useId();
  return (
    <div class="field check">
      <input id={id} type="checkbox" checked={checked} disabled={disabled} aria-describedby={hint ? `${id}-hint` : undefined} onChange={(e) => onChange(e.currentTarget.checked)} />
      <label for={id}>{label}</label>
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

// Form sends itself by Enter too.
export function Form({ onSubmit, children, label }: { onSubmit: () => void; children: ComponentChildren; label?: string }) {
  return (
    <form
      class="form"
      aria-label={label}
      onSubmit={(e) => {
        e.preventDefault();
        onSubmit();
      }}
    >
      {children}
    </form>
  );
}
