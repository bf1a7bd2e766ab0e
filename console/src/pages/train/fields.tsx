import { type ReactNode, useId } from "react";

import { usePreferences } from "../../app/preferences";
import { useWizard } from "./context";
import type { Choice, Draft } from "./draft";
import { type ChoiceName, CHOICES, misfit, NUMBERS, type NumberName } from "./settings";
import { useTrainText } from "./text";

interface FieldProps {
  label: string;
  hint?: ReactNode;
  /** Its path in the job file: a problem of the gateway is shown here. */
  field: string;
  /** What the form itself finds wrong. */
  wrong?: string | undefined;
  children: (props: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ReactNode;
}

/** A label, its input, a hint, and what is wrong. */
export function Field({ label, hint, field, wrong, children }: FieldProps) {
  const { problems } = useWizard();
  const id = useId();
  const problem = wrong ?? problems[field];
  return (
    <div className="sk-train-field" data-field={field}>
      <label htmlFor={id}>{label}</label>
      {children({ id, "aria-describedby": `${id}-hint`, "aria-invalid": problem !== undefined })}
      <p id={`${id}-hint`} className={problem === undefined ? "sk-hint" : "sk-error-line"} role={problem === undefined ? undefined : "alert"}>
        {problem ?? hint}
      </p>
    </div>
  );
}

/** A figure: empty is `auto`, or the default. Its bounds stand below. */
export function NumberField({ name, unit }: { name: NumberName; unit?: string }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const { draft, change } = useWizard();
  const setting = NUMBERS[name];
  const text = draft.numbers[name] ?? "";
  const told = (value: number) => new Intl.NumberFormat(locale, { maximumFractionDigits: 6 }).format(value);
  const bounds =
    setting.most >= Number.MAX_SAFE_INTEGER
      ? t("bounds.from", { least: told(setting.least) })
      : t("above" in setting && setting.above ? "bounds.above" : "bounds.between", { least: told(setting.least), most: told(setting.most) });
  const wrong = misfit(text, setting);
  const optional = name === "budget" || name === "max_price";
  const usual = "usual" in setting ? told(setting.usual as number) : t("auto");
  return (
    <Field
      label={t(`field.${name}`)}
      field={setting.field}
      hint={
        <>
          {t(`hint.${name}`)}
          {!optional && <span className="sk-train-bounds"> {bounds}</span>}
        </>
      }
      wrong={wrong === null ? undefined : t(`wrong.${wrong}`, { least: told(setting.least), most: told(setting.most) })}
    >
      {(props) => (
        <span className="sk-train-unit" data-unit={unit}>
          <input
            {...props}
            className="sk-input"
            inputMode={setting.whole ? "numeric" : "decimal"}
            autoComplete="off"
            placeholder={optional ? t("none") : usual}
            value={text}
            onChange={(event) => change({ numbers: { ...draft.numbers, [name]: event.target.value } })}
          />
        </span>
      )}
    </Field>
  );
}

type TextName = "cpus" | "memory" | "nodes" | "regions" | "instanceTypes" | "retryDuration" | "targetModules" | "secrets" | "project";

export function TextField({ name, field, placeholder }: { name: TextName; field: string; placeholder?: string }) {
  const t = useTrainText();
  const { draft, change } = useWizard();
  return (
    <Field label={t(`field.${name}`)} hint={t(`hint.${name}`)} field={field}>
      {(props) => (
        <input
          {...props}
          className="sk-input"
          autoComplete="off"
          spellCheck={false}
          placeholder={placeholder ?? t("auto")}
          value={draft[name]}
          onChange={(event) => change({ [name]: event.target.value } satisfies Partial<Draft>)}
        />
      )}
    </Field>
  );
}

interface SegmentsProps<T extends string> {
  label: string;
  hint?: ReactNode;
  field: string;
  options: readonly { value: T; label: string }[];
  value: T;
  onChange: (value: T) => void;
}

/** One of a few, side by side. */
export function Segments<T extends string>({ label, hint, field, options, value, onChange }: SegmentsProps<T>) {
  const { problems } = useWizard();
  const id = useId();
  const problem = problems[field];
  return (
    <fieldset className="sk-train-field sk-train-segments" data-field={field} aria-describedby={`${id}-hint`}>
      <legend>{label}</legend>
      <div>
        {options.map((option) => (
          <label key={option.value}>
            <input type="radio" name={id} checked={option.value === value} onChange={() => onChange(option.value)} />
            <span>{option.label}</span>
          </label>
        ))}
      </div>
      <p id={`${id}-hint`} className={problem === undefined ? "sk-hint" : "sk-error-line"} role={problem === undefined ? undefined : "alert"}>
        {problem ?? hint}
      </p>
    </fieldset>
  );
}

/** `auto`, on or off. */
export function ChoiceField({ name }: { name: ChoiceName }) {
  const t = useTrainText();
  const { draft, change } = useWizard();
  const options = (["auto", "true", "false"] satisfies Choice[]).map((value) => ({ value, label: t(`choice.${value}`) }));
  return (
    <Segments
      label={t(`field.${name}`)}
      hint={t(`hint.${name}`)}
      field={CHOICES[name]}
      options={options}
      value={draft.choices[name] ?? "auto"}
      onChange={(value) => change({ choices: { ...draft.choices, [name]: value } })}
    />
  );
}

interface CheckProps {
  label: string;
  hint?: string;
  checked: boolean;
  onChange: (checked: boolean) => void;
}

export function Check({ label, hint, checked, onChange }: CheckProps) {
  return (
    <label className="sk-train-check">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.target.checked)} />
      <span>
        {label}
        {hint !== undefined && <small>{hint}</small>}
      </span>
    </label>
  );
}

interface CardProps {
  name: string;
  checked: boolean;
  onChoose: () => void;
  title: ReactNode;
  detail?: ReactNode;
  aside?: ReactNode;
  disabled?: boolean;
}

/** A choice with a few words to it; all of one `name` are a group. */
export function Card({ name, checked, onChoose, title, detail, aside, disabled = false }: CardProps) {
  return (
    <label className="sk-train-card" data-checked={checked} data-disabled={disabled}>
      <input type="radio" name={name} checked={checked} disabled={disabled} onChange={onChoose} />
      <span className="sk-train-card-text">
        <strong>{title}</strong>
        {detail !== undefined && <span>{detail}</span>}
      </span>
      {aside !== undefined && <span className="sk-train-card-aside">{aside}</span>}
    </label>
  );
}

/** What is seldom needed, folded away; open where something in it was set. */
export function Folded({ title, isOpen, children }: { title: string; isOpen: boolean; children: ReactNode }) {
  return (
    <details className="sk-train-folded" open={isOpen}>
      <summary>{title}</summary>
      <div className="sk-train-fields">{children}</div>
    </details>
  );
}
