/** Words on the page, in the languages it speaks. */

export interface Texts {
  readonly locale: string;
  readonly tagline: string;
  readonly signInWith: (provider: string) => string;
  readonly checking: string;
  readonly ssoUnavailable: string;
  readonly banned: string;
  readonly signOut: string;
  readonly rooms: string;
  readonly people: string;
  readonly messages: string;
  readonly online: string;
  readonly connecting: string;
  readonly reconnecting: string;
  readonly placeholder: (room: string) => string;
  readonly send: string;
  readonly sending: string;
  readonly failed: string;
  readonly retry: string;
  readonly discard: string;
  readonly older: string;
  readonly loading: string;
  readonly historyFailed: string;
  readonly empty: string;
  readonly newest: string;
  readonly today: string;
  readonly yesterday: string;
  readonly you: string;
  readonly tooLong: (over: number) => string;
  readonly queueFull: string;
  readonly logoutFailed: string;
  readonly roomGone: string;
  readonly removed: (room: string) => string;
  readonly noRoom: string;
  readonly sessionEnded: string;
  /** Why a sign-in failed, by the server's reason; `other` for every other one. */
  readonly authErrors: Readonly<Record<string, string>> & { readonly other: string };
  readonly waiting: string;
  readonly saving: string;
  readonly deleting: string;
  readonly edit: string;
  readonly delete: string;
  readonly save: string;
  readonly cancel: string;
  readonly editing: string;
  readonly askDelete: string;
  readonly keep: string;
  readonly edited: string;
  readonly editedAt: (time: string) => string;
  readonly notEdited: string;
  readonly notDeleted: string;
  readonly typing: (names: readonly string[]) => string;
  readonly unread: (count: number) => string;
  readonly said: (who: string, text: string) => string;
  readonly reasons: Readonly<Record<string, string>>;
}

const EN: Texts = {
  locale: "en",
  tagline: "Rooms to talk in, on your own server.",
  signInWith: (provider) => `Sign in with ${provider}`,
  checking: "One moment…",
  ssoUnavailable: "The sign-in service does not answer. Trying again…",
  banned: "This account may not enter this server. Ask its administrator.",
  signOut: "Sign out",
  rooms: "Rooms",
  people: "In the room",
  messages: "Messages",
  online: "Connected",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  placeholder: (room) => `Message to ${room}`,
  send: "Send",
  sending: "Sending…",
  failed: "Not sent.",
  retry: "Try again",
  discard: "Discard",
  older: "Show earlier messages",
  loading: "Loading…",
  historyFailed: "The messages could not be loaded.",
  empty: "Nothing has been said here yet. Say hello!",
  newest: "New messages ↓",
  today: "Today",
  yesterday: "Yesterday",
  you: "you",
  tooLong: (over) => `${over} too many characters`,
  queueFull: "Too many unsent messages. They go out as soon as the connection is back.",
  logoutFailed: "Signing out did not work. Check the connection and try again.",
  roomGone: "This room is gone, or you are not a member of it any more.",
  removed: (room) => `You are no longer a member of ${room}.`,
  noRoom: "Choose a room to talk in.",
  sessionEnded: "Your session has ended. Sign in again.",
  authErrors: {
    access_denied: "The sign-in was cancelled.",
    banned: "This account may not enter this server. Ask its administrator.",
    sign_in_expired: "The sign-in took too long. Try again.",
    state_mismatch: "The sign-in was begun in another window or tab. Try again here.",
    login_required: "The sign-in service wants you to sign in there first. Try again.",
    temporarily_unavailable: "The sign-in service is busy. Try again in a minute.",
    server_error: "The sign-in service has a problem of its own. Try again in a minute.",
    other: "The sign-in did not work. Try again; if it goes on, tell the server's administrator.",
  },
  waiting: "Waiting: too much at once…",
  saving: "Saving…",
  deleting: "Deleting…",
  edit: "Edit",
  delete: "Delete",
  save: "Save",
  cancel: "Cancel",
  editing: "Text of the message. Enter saves, Escape cancels.",
  askDelete: "Delete this message for everybody?",
  keep: "Keep",
  edited: "edited",
  editedAt: (time) => `Edited ${time}`,
  notEdited: "Not changed.",
  notDeleted: "Not deleted.",
  typing: (names) => {
    const [first = "", second = ""] = names;
    if (names.length === 1) return `${first} is typing…`;
    return names.length === 2 ? `${first} and ${second} are typing…` : `${first}, ${second} and ${names.length - 2} more are typing…`;
  },
  unread: (count) => `${count} unread`,
  said: (who, text) => `${who}: ${text}`,
  reasons: {
    RateLimited: "Too many messages at once.",
    ValidationError: "The server did not accept this text.",
    NoActiveRoom: "The room was being left.",
    IdempotencyConflict: "It was sent before with another text.",
    EditWindowExpired: "A message can be edited for 10 minutes.",
    DeleteWindowExpired: "A message can be deleted for 10 minutes.",
    MessageNotFound: "The message is not there any more.",
    Forbidden: "You may not do this.",
    RoomNotFound: "You are not a member of the room any more.",
    ServerError: "The server could not store it.",
  },
};

const RU: Texts = {
  locale: "ru",
  tagline: "Комнаты для разговоров на своём сервере.",
  signInWith: (provider) => `Войти через ${provider}`,
  checking: "Минутку…",
  ssoUnavailable: "Служба входа не отвечает. Пробуем ещё раз…",
  banned: "Этой учётной записи вход на сервер закрыт. Обратитесь к администратору.",
  signOut: "Выйти",
  rooms: "Комнаты",
  people: "В комнате",
  messages: "Сообщения",
  online: "На связи",
  connecting: "Соединяемся…",
  reconnecting: "Восстанавливаем связь…",
  placeholder: (room) => `Сообщение в ${room}`,
  send: "Отправить",
  sending: "Отправляется…",
  failed: "Не отправлено.",
  retry: "Повторить",
  discard: "Убрать",
  older: "Показать более ранние",
  loading: "Загружаем…",
  historyFailed: "Не удалось загрузить сообщения.",
  empty: "Здесь ещё ничего не сказано. Поздоровайтесь!",
  newest: "Новые сообщения ↓",
  today: "Сегодня",
  yesterday: "Вчера",
  you: "вы",
  tooLong: (over) => `Лишних символов: ${over}`,
  queueFull: "Слишком много неотправленных сообщений. Они уйдут, как только появится связь.",
  logoutFailed: "Выйти не удалось. Проверьте соединение и попробуйте ещё раз.",
  roomGone: "Этой комнаты больше нет, или вы больше не её участник.",
  removed: (room) => `Вы больше не участник комнаты «${room}».`,
  noRoom: "Выберите комнату для разговора.",
  sessionEnded: "Сеанс завершён. Войдите ещё раз.",
  authErrors: {
    access_denied: "Вход отменён.",
    banned: "Этой учётной записи вход на сервер закрыт. Обратитесь к администратору.",
    sign_in_expired: "Вход занял слишком много времени. Попробуйте ещё раз.",
    state_mismatch: "Вход был начат в другом окне или вкладке. Попробуйте ещё раз здесь.",
    login_required: "Служба входа просит сначала войти у неё. Попробуйте ещё раз.",
    temporarily_unavailable: "Служба входа перегружена. Попробуйте через минуту.",
    server_error: "В службе входа неполадки. Попробуйте через минуту.",
    other: "Войти не получилось. Попробуйте ещё раз; если не поможет, сообщите администратору сервера.",
  },
  waiting: "Ждёт: слишком много сразу…",
  saving: "Сохраняется…",
  deleting: "Удаляется…",
  edit: "Изменить",
  delete: "Удалить",
  save: "Сохранить",
  cancel: "Отмена",
  editing: "Текст сообщения. Enter сохраняет, Escape отменяет.",
  askDelete: "Удалить это сообщение для всех?",
  keep: "Оставить",
  edited: "изменено",
  editedAt: (time) => `Изменено ${time}`,
  notEdited: "Не изменено.",
  notDeleted: "Не удалено.",
  typing: (names) => {
    const [first = "", second = ""] = names;
    if (names.length === 1) return `${first} печатает…`;
    return names.length === 2 ? `${first} и ${second} печатают…` : `${first}, ${second} и ещё ${names.length - 2} печатают…`;
  },
  unread: (count) => `непрочитанных: ${count}`,
  said: (who, text) => `${who}: ${text}`,
  reasons: {
    RateLimited: "Слишком много сообщений сразу.",
    ValidationError: "Сервер не принял этот текст.",
    NoActiveRoom: "Комната как раз закрывалась.",
    IdempotencyConflict: "Оно уже уходило с другим текстом.",
    EditWindowExpired: "Сообщение можно изменить в течение 10 минут.",
    DeleteWindowExpired: "Сообщение можно удалить в течение 10 минут.",
    MessageNotFound: "Этого сообщения больше нет.",
    Forbidden: "Вам это нельзя.",
    RoomNotFound: "Вы больше не участник комнаты.",
    ServerError: "Сервер не смог это сохранить.",
  },
};

/** The first of the reader's languages that the page speaks; English otherwise. */
export function textsFor(languages: readonly string[]): Texts {
  const known: Record<string, Texts> = { en: EN, ru: RU };
  for (const language of languages) {
    const texts = known[language.slice(0, 2).toLowerCase()];
    if (texts !== undefined) return texts;
  }
  return EN;
}
