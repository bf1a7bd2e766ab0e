import { Select } from "antd";
import { useState } from "react";

import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { months } from "./spans";
import { useCostsText } from "./text";

const MONTHS = 13;

/** The ledger's rows of a month, as a file. */
export function Export() {
  const t = useCostsText();
  const [choices] = useState(() => months(new Date(), MONTHS));
  const [chosen, setChosen] = useState(choices[0]?.name ?? "");
  const month = choices.find((one) => one.name === chosen);
  const link = (format: "csv" | "parquet") =>
    `/v1/costs/export?${new URLSearchParams({ format, since: month?.since ?? "", until: month?.until ?? "" })}`;
  return (
    <Section title={t("export.title")}>
      <p className="sk-hint sk-costs-lead">{t("export.lead")}</p>
      <div className="sk-row">
        <Select value={chosen} aria-label={t("export.month")} onChange={setChosen} options={choices.map(({ name }) => ({ value: name, label: name }))} />
        {(["csv", "parquet"] as const).map((format) => (
          <a key={format} className="sk-button" href={link(format)} download={`sskai-${chosen}.${format}`}>
            <Icon name="download" size={16} /> {t(`export.${format}`)}
          </a>
        ))}
      </div>
    </Section>
  );
}
