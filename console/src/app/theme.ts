import { theme, type ThemeConfig } from "antd";

import { cssName, PALETTES, type ThemeName } from "./palette";

export const FONT =
  'system-ui, -apple-system, "Segoe UI", Roboto, "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans CJK KR", ' +
  '"Malgun Gothic", "Helvetica Neue", Arial, sans-serif';
export const CODE_FONT =
  'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK KR", monospace';

/** antd's tokens made of the palette; without motion for who asked their system for less of it. */
export function antdTheme(name: ThemeName, motion: boolean): ThemeConfig {
  const colors = PALETTES[name];
  return {
    algorithm: name === "dark" ? theme.darkAlgorithm : theme.defaultAlgorithm,
    token: {
      colorPrimary: colors.accent,
      colorLink: colors.accent,
      colorInfo: colors.accent,
      colorSuccess: colors.good,
      colorWarning: colors.wait,
      colorError: colors.bad,
      // What antd derives from such dark seeds is grey.
      colorPrimaryBg: colors.accentSoft,
      colorPrimaryBgHover: colors.accentSoft,
      colorInfoBg: colors.busySoft,
      colorSuccessBg: colors.goodSoft,
      colorWarningBg: colors.waitSoft,
      colorErrorBg: colors.badSoft,
      colorInfoBorder: colors.line,
      colorSuccessBorder: colors.line,
      colorWarningBorder: colors.line,
      colorErrorBorder: colors.line,
      colorBgBase: colors.surface,
      colorBgLayout: colors.ground,
      colorBgContainer: colors.surface,
      colorBgElevated: colors.raised,
      colorBorder: colors.lineStrong,
      colorBorderSecondary: colors.line,
      colorSplit: colors.line,
      colorText: colors.text,
      colorTextSecondary: colors.textMuted,
      colorTextTertiary: colors.textFaint,
      colorTextDescription: colors.textMuted,
      colorTextPlaceholder: colors.textFaint,
      colorTextLightSolid: name === "dark" ? colors.onAccent : "#ffffff",
      fontFamily: FONT,
      fontFamilyCode: CODE_FONT,
      fontSize: 14,
      borderRadius: 6,
      borderRadiusLG: 10,
      controlHeight: 32,
      motion,
      motionDurationMid: "0.12s",
      motionDurationSlow: "0.18s",
      boxShadow: "0 1px 2px rgb(0 0 0 / 0.06), 0 6px 20px rgb(0 0 0 / 0.10)",
      boxShadowSecondary: "0 1px 2px rgb(0 0 0 / 0.08), 0 10px 32px rgb(0 0 0 / 0.16)",
    },
    components: {
      Button: { primaryColor: colors.onAccent, primaryShadow: "none", defaultShadow: "none", fontWeight: 500, defaultBorderColor: colors.lineButton },
      Card: { headerFontSize: 14, bodyPadding: 16, headerPadding: 16 },
      Table: { headerBg: "transparent", headerColor: colors.textMuted, headerSplitColor: "transparent", cellPaddingBlockMD: 9, cellPaddingInlineMD: 16 },
      Tooltip: { colorBgSpotlight: "#26302d", colorTextLightSolid: "#f2f5f3" },
      Segmented: { itemSelectedBg: colors.raised, trackBg: colors.sunken },
    },
  };
}

/** The same colours for our own style sheet. */
export function applyPalette(name: ThemeName): void {
  const root = document.documentElement;
  root.dataset["theme"] = name;
  for (const [key, color] of Object.entries(PALETTES[name])) root.style.setProperty(cssName(key), color);
}
