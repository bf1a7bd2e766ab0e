import { useMutation } from "@tanstack/react-query";
import { Button, Input } from "antd";
import { useState } from "react";

import { send } from "../../../api/client";
import { useMay } from "../../../api/session";
import { ErrorLine } from "../../../components/ErrorState";
import { Icon } from "../../../components/icons";
import { useEndpointsText } from "../text";

/** Praise, blame, or what it should have said: what canaries are judged by and what the next version learns from. */
export function Feedback({ answerId }: { answerId: string }) {
  const t = useEndpointsText();
  const mayWrite = useMay("write");
  const [correction, setCorrection] = useState<string | null>(null);
  const give = useMutation({
    mutationFn: (word: { label?: "up" | "down"; correction?: string }) => send("POST", "/v1/feedback", { body: { id: answerId, ...word } }),
    onSuccess: (_, word) => word.correction !== undefined && setCorrection(null),
  });
  const label = give.isSuccess ? (give.variables.label ?? "down") : null;
  if (!mayWrite) return null;
  return (
    <>
      <span className="sk-endpoints-thumbs">
        {(["up", "down"] as const).map((word) => (
          <Button
            key={word}
            type="text"
            size="small"
            aria-label={t(`feedback.${word}`)}
            title={t(`feedback.${word}`)}
            aria-pressed={label === word}
            icon={<Icon name={word === "up" ? "thumbUp" : "thumbDown"} size={16} />}
            onClick={() => give.mutate({ label: word })}
          />
        ))}
        <Button type="text" size="small" aria-expanded={correction !== null} onClick={() => setCorrection(correction === null ? "" : null)}>
          {t("feedback.correct")}
        </Button>
        <span role="status">{give.isSuccess ? t("feedback.thanks") : ""}</span>
      </span>
      {correction !== null && (
        <span className="sk-endpoints-correction">
          <Input.TextArea
            aria-label={t("feedback.correction")}
            placeholder={t("feedback.correction")}
            maxLength={2_000}
            autoSize={{ minRows: 2, maxRows: 6 }}
            value={correction}
            onChange={(event) => setCorrection(event.target.value)}
          />
          <Button
            size="small"
            loading={give.isPending}
            disabled={correction.trim() === ""}
            onClick={() => give.mutate({ label: "down", correction: correction.trim() })}
          >
            {t("feedback.send")}
          </Button>
        </span>
      )}
      <ErrorLine error={give.error} />
    </>
  );
}
