import { type ReactNode, useId } from "react";

interface FormFieldProps {
  label: string;
  hint?: ReactNode;
  /** What is wrong with it, in words. */
  error?: string | null | undefined;
  /** Gets what ties the control to its label and hint. */
  children: (control: { id: string; "aria-describedby": string; status?: "error" }) => ReactNode;
}

/** A control with its label above, and below what it is for or what is wrong with it. */
export function FormField({ label, hint, error, children }: FormFieldProps) {
  const id = useId();
  return (
    <div className="sk-field">
      <label htmlFor={id}>{label}</label>
      {children({ id, "aria-describedby": `${id}-hint`, ...(error ? { status: "error" as const } : {}) })}
      <p id={`${id}-hint`} className={error ? "sk-error-line" : "sk-hint"}>
        {error ?? hint}
      </p>
    </div>
  );
}
