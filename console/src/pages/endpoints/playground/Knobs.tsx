import { Input, InputNumber, Select, Slider } from "antd";

import { FormField } from "../../../components/FormField";
import type { Knob } from "../documents";
import { useEndpointsText } from "../text";

export type Turned = Record<string, number | string | null>;

/** The fields of a request that a person may turn, with the bounds that the gateway tells. Untouched ones are not sent. */
export function Knobs({ knobs, turned, onTurn }: { knobs: Knob[]; turned: Turned; onTurn: (turned: Turned) => void }) {
  return (
    <div className="sk-stack">
      {knobs.map((knob) => (
        <One key={knob.name} knob={knob} value={turned[knob.name] ?? null} onTurn={(value) => onTurn({ ...turned, [knob.name]: value })} />
      ))}
    </div>
  );
}

/** What was turned, as a part of the request. */
export function parametersOf(turned: Turned): Record<string, number | string> {
  return Object.fromEntries(Object.entries(turned).filter((one): one is [string, number | string] => one[1] !== null && one[1] !== ""));
}

function One({ knob, value, onTurn }: { knob: Knob; value: number | string | null; onTurn: (value: number | string | null) => void }) {
  const t = useEndpointsText();
  const { minimum, maximum } = knob;
  const placeholder = knob.default === null ? t("knob.none") : String(knob.default);
  const isShare = knob.type === "number" && minimum !== null && maximum !== null;
  return (
    <FormField label={knob.name} hint={isShare ? undefined : boundsOf(knob)}>
      {(control) => {
        if (knob.type === "text") {
          return <Input {...control} value={value ?? ""} placeholder={placeholder} onChange={(event) => onTurn(event.target.value)} />;
        }
        if (knob.type === "choice") {
          const options = knob.choices.map((choice) => ({ value: choice, label: choice }));
          return <Select {...control} value={value ?? knob.default} options={options} onChange={onTurn} />;
        }
        const field = (
          <InputNumber
            {...control}
            value={typeof value === "number" ? value : null}
            placeholder={placeholder}
            {...(minimum === null ? {} : { min: minimum })}
            {...(maximum === null ? {} : { max: maximum })}
            {...(knob.type === "integer" ? { precision: 0 } : { step: 0.1 })}
            onChange={onTurn}
          />
        );
        if (!isShare) return field;
        return (
          <span className="sk-endpoints-knob">
            <Slider
              min={minimum}
              max={maximum}
              step={0.05}
              value={typeof value === "number" ? value : Number(knob.default)}
              ariaLabelForHandle={knob.name}
              onChange={(next: number) => onTurn(next)}
            />
            {field}
          </span>
        );
      }}
    </FormField>
  );
}

const LARGEST_SHOWN = 1_000_000;

function boundsOf({ minimum, maximum }: Knob): string {
  if (minimum === null) return "";
  return maximum === null || maximum > LARGEST_SHOWN ? `≥ ${minimum}` : `${minimum} – ${maximum}`;
}
