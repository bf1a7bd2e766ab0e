/** The console's own colours. `--sk-*` properties for our style sheet and antd's tokens are both made of these. */

export type ThemeName = "light" | "dark";

export interface Palette {
  ground: string;
  surface: string;
  raised: string;
  sunken: string;
  line: string;
  lineButton: string;
  lineStrong: string;
  text: string;
  textMuted: string;
  textFaint: string;
  accent: string;
  accentStrong: string;
  accentSoft: string;
  onAccent: string;
  spot: string;
  good: string;
  goodSoft: string;
  busy: string;
  busySoft: string;
  wait: string;
  waitSoft: string;
  bad: string;
  badSoft: string;
  off: string;
  offSoft: string;
  chart1: string;
  chart2: string;
  chart3: string;
  chart4: string;
  chart5: string;
}

const light: Palette = {
  ground: "#f5f4ef",
  surface: "#fffefb",
  raised: "#ffffff",
  sunken: "#efede6",
  line: "#e3e0d6",
  lineButton: "#c4c0b3",
  lineStrong: "#8d897b",
  text: "#1d211f",
  textMuted: "#565c58",
  textFaint: "#6b706b",
  accent: "#0b6b5d",
  accentStrong: "#07544a",
  accentSoft: "#dcece7",
  onAccent: "#ffffff",
  spot: "#a35c00",
  good: "#1c6b3c",
  goodSoft: "#e0f0e4",
  busy: "#0b6b5d",
  busySoft: "#dcece7",
  wait: "#8a5200",
  waitSoft: "#fbeed5",
  bad: "#b3261e",
  badSoft: "#fbe6e3",
  off: "#565c58",
  offSoft: "#ebe9e2",
  chart1: "#0b6b5d",
  chart2: "#c4720a",
  chart3: "#5d57b5",
  chart4: "#b13a68",
  chart5: "#4c7a1f",
};

const dark: Palette = {
  ground: "#101413",
  surface: "#171c1b",
  raised: "#1e2523",
  sunken: "#0c100f",
  line: "#29312f",
  lineButton: "#45504d",
  lineStrong: "#77827e",
  text: "#e8ebe8",
  textMuted: "#a9b2ae",
  textFaint: "#929c98",
  accent: "#4fc9b0",
  accentStrong: "#7adcc7",
  accentSoft: "#173630",
  onAccent: "#05201b",
  spot: "#f4b740",
  good: "#79d296",
  goodSoft: "#16311f",
  busy: "#4fc9b0",
  busySoft: "#173630",
  wait: "#f0bd62",
  waitSoft: "#37290f",
  bad: "#ff8f84",
  badSoft: "#3d1b18",
  off: "#a9b2ae",
  offSoft: "#262d2b",
  chart1: "#4fc9b0",
  chart2: "#f4b740",
  chart3: "#a6a1f2",
  chart4: "#f288ad",
  chart5: "#a5cf73",
};

export const PALETTES: Record<ThemeName, Palette> = { light, dark };

/** `--sk-line-strong` for `lineStrong`. */
export function cssName(key: string): string {
  return `--sk-${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace(/\d/, (digit) => `-${digit}`)}`;
}
